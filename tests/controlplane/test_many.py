"""Many TaskQueues with one operator: they are read together, and a Redis that never answers delays nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from tests.support.erring_server import answering
from tests.support.operator_space import Space, until
from tests.support.redis_server import RedisServer

MANY, TRIALS = 60, 15
API = "taskfleet.io/v1alpha1"
PREFIX = "many"


def manifest(number: int, namespace: str, redis: dict[str, Any], *, poll: int) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "TaskQueue",
        "metadata": {"name": f"q{number}", "namespace": namespace},
        "spec": {
            "redis": redis,
            "queues": [{"name": f"q{number}"}],
            "worker": {"image": "registry.example/shop:1.0", "app": "shop.tasks:queue"},
            "autoscaler": {"maxReplicas": 5, "pollIntervalSeconds": poll},
        },
    }


@pytest.fixture
def operated(
    crd: None, kubectl: ClusterCommand, namespace: str, control_plane: Path, tmp_path: Path
) -> Iterator[Space]:
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "operator", "--namespace", namespace],
            env=os.environ | {"KUBECONFIG": str(control_plane)},
            stderr=log,
            preexec_fn=ends_with_this_process(),
        )
        yield Space(kubectl, namespace)
        process.terminate()
        process.wait(60)
    assert "Traceback" not in (tmp_path / "operator.log").read_text()


async def readings(url: str) -> int:
    """How often the list of queues was read on this server, which each reading of figures does once."""
    broker = RedisBroker.from_url(url)
    try:
        info = await broker.client.redis.info("commandstats")
        return int(info.get("cmdstat_smembers", {}).get("calls", 0))
    finally:
        await broker.close()


@pytest.mark.timeout(300)
async def test_sixty_taskqueues_beside_a_redis_that_never_answers(
    operated: Space, redis_server: RedisServer, control_plane: Path
) -> None:
    namespace, good = operated.name, {"url": redis_server.url, "keyPrefix": PREFIX}
    async with answering(b"...") as black_hole:
        holes = [manifest(number, namespace, {"url": black_hole}, poll=1) for number in range(MANY, MANY + 3)]
        items = [*holes, *(manifest(number, namespace, good, poll=300) for number in range(MANY))]
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        await asyncio.to_thread(lambda: operated("apply", "-f", "-", stdin=everything))

        def answered() -> bool:
            found = operated.kubectl.json("get", "tq", "-n", namespace)["items"]
            reachable = [
                condition["status"]
                for one in found
                for condition in one.get("status", {}).get("conditions", ())
                if condition["type"] == "RedisReachable"
            ]
            return (reachable.count("True"), reachable.count("False")) == (MANY, 3)

        await asyncio.to_thread(until, answered, "all have been looked at", seconds=120)
        before, began = await readings(redis_server.url), time.monotonic()
        took = await first_tasks(redis_server, control_plane, namespace)
        reads = await readings(redis_server.url) - before
        median, worst = sorted(took)[len(took) // 2], max(took)
        print(f"0 → 1 beside {MANY - 1} others: p50 {median:.3f} s, worst {worst:.3f} s; {reads} readings")
        # The next poll is minutes away: every worker came by an announcement, and each woke only its own TaskQueue.
        recorded = (time.monotonic() - began) / 15 + 1  # figures over time, of all queues at once
        assert reads <= 10 + TRIALS * 8 + recorded
        assert median < 5  # the target is 0.2 s, for a machine that has nothing else to do
        await asyncio.to_thread(lambda: operated("delete", "tq", "--all", "--wait=false"))


async def first_tasks(redis_server: RedisServer, control_plane: Path, namespace: str) -> list[float]:
    """The seconds from the enqueueing of the first task of a queue to the new number of replicas."""
    settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix=PREFIX))
    api = await KubernetesApi.connect(str(control_plane))
    took: list[float] = []
    async with TaskQueue(settings=settings) as queue:

        @queue.task
        async def nothing() -> None: ...

        try:
            for number in range(TRIALS):
                began = time.monotonic()
                await nothing.options(queue=f"q{number}").enqueue()
                async with asyncio.timeout(60):
                    while True:
                        live = await api.get("apps/v1", "Deployment", namespace, f"q{number}-worker")
                        if live is not None and live["spec"]["replicas"] >= 1:
                            break
                        await asyncio.sleep(0.005)
                took.append(time.monotonic() - began)
        finally:
            await api.close()
    return took
