"""The operator's load on the API server, and its repairs after another operator ended half-way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from taskfleet.redis.broker import RedisBroker
from tests.controlplane.test_promises import Make, Queue, make, shared
from tests.support.operator_space import enqueue, purge, until
from tests.support.redis_server import RedisServer

__all__ = ["make", "shared"]


def test_a_trickle_of_tasks_costs_few_writes(make: Make, redis_server: RedisServer) -> None:
    queue = make("trickle", autoscaler={"minReplicas": 1, "pollIntervalSeconds": 5})
    until(lambda: queue.replicas() == 1, "one worker is asked for")
    command = [str(queue.kubectl.binary), "get", "tq", "trickle", "--namespace", queue.name, "--watch-only"]
    watch = subprocess.Popen(
        [*command, "-o", 'jsonpath={.metadata.resourceVersion}{"\\n"}'],
        env=os.environ | {"KUBECONFIG": str(queue.kubectl.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    began = time.monotonic()
    sent = 0
    while time.monotonic() - began < 10:
        enqueue(redis_server, "trickle", 1)
        purge(redis_server, "trickle")
        sent += 1
    watch.terminate()
    out, _ = watch.communicate()
    passed = time.monotonic() - began
    print(f"{sent} tasks in {passed:.0f} s, {len(out.split())} writes of status")
    assert len(out.split()) <= 1.5 * passed


def versions(queue: Queue, name: str, seconds: float) -> list[str]:
    """The versions of a TaskQueue that a watch shows in so many seconds."""
    command = [str(queue.kubectl.binary), "get", "tq", name, "--namespace", queue.name, "--watch-only"]
    watch = subprocess.Popen(
        [*command, "-o", 'jsonpath={.metadata.resourceVersion}{"\\n"}'],
        env=os.environ | {"KUBECONFIG": str(queue.kubectl.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        watch.wait(seconds)
    except subprocess.TimeoutExpired:
        watch.terminate()
    return (watch.communicate()[0] or "").split()


@pytest.mark.parametrize("mode", ["Managed", "Recommend"])
def test_a_standing_backlog_costs_less_than_a_write_a_minute(mode: str, make: Make, redis_server: RedisServer) -> None:
    name = f"standing-{mode.lower()}"
    queue = make(name, autoscaler={"mode": mode, "minReplicas": 1, "maxReplicas": 2, "pollIntervalSeconds": 1})
    enqueue(redis_server, name, 2000)
    until(lambda: queue.status().get("desiredReplicas") == 2, "the backlog is decided upon", seconds=60)
    if mode == "Managed":
        until(lambda: queue.status().get("replicas") == 2, "the pods exist", seconds=60)
    versions(queue, name, 10)  # figures that were not told yet
    seen = versions(queue, name, 30)
    print(f"{mode}: {len(seen)} writes in 30 looks")
    assert len(seen) <= 1


def test_an_idle_taskqueue_costs_no_write(make: Make) -> None:
    queue = make("idle")

    def version() -> str:
        return str(queue.get("tq", "idle")["metadata"]["resourceVersion"])

    def calm() -> bool:
        before = version()
        time.sleep(10)
        return version() == before

    until(calm, "its beginning is told", seconds=120)
    steady = version()
    time.sleep(20)
    assert version() == steady


def test_a_cordon_of_an_earlier_operator_is_lifted(make: Make, redis_server: RedisServer) -> None:
    queue = make("orphan", replicas=1, autoscaler={"mode": "Disabled", "pollIntervalSeconds": 1})
    pod = until(queue.pods, "there is a pod")[0]["metadata"]["name"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "worker", "tests.support.sleeping_app:queue"],
        env=os.environ
        | {
            "REDIS_URL": redis_server.url,
            "TASKFLEET_REDIS__KEY_PREFIX": "orphan",
            "TASKFLEET_WORKER_NAME": pod,
            "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "1",
        },
    )

    async def with_broker(action: Any) -> Any:
        broker = RedisBroker.from_url(redis_server.url, prefix="orphan")
        try:
            return await action(broker)
        finally:
            await broker.close()

    def states() -> list[str]:
        return [one.state for one in asyncio.run(with_broker(lambda broker: broker.workers()))]

    async def is_cordoned(broker: RedisBroker) -> bool:
        return bool(await broker.client.redis.exists(broker.fleet.cordon(pod)))

    try:
        until(lambda: states() == ["running"], "the worker works")
        asyncio.run(with_broker(lambda broker: broker.cordon(pod, ttl_seconds=600)))
        until(lambda: not asyncio.run(with_broker(is_cordoned)), "the cordon is lifted", seconds=30)
        until(lambda: states() == ["running"], "it works again")
    finally:
        worker.terminate()
        worker.wait(60)
