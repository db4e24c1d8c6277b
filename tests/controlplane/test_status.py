"""The status of a TaskQueue on a real API server: complete, by uid, put right, bounded, and with its conditions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.errors import TaskExecutionError
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from tests.controlplane.test_promises import Make, Queue, make, shared
from tests.support.erring_server import answering
from tests.support.operator_space import enqueue, until
from tests.support.redis_server import RedisServer

__all__ = ["make", "shared"]

API = "taskfleet.io/v1alpha1"
ROUNDS = 100
FIELDS = {"replicas", "readyReplicas", "desiredReplicas", "selector", "observedGeneration", "queues", "totalBacklog"}
CONDITIONS = {"Ready", "Progressing", "RedisReachable", "ScalingActive", "ScalingLimited", "Paused", "Fallback"}


def is_whole(status: dict[str, Any]) -> bool:
    types = {condition["type"] for condition in status.get("conditions", ())}
    return status.keys() >= FIELDS and types >= CONDITIONS | {"SpecValid"}


@pytest.mark.timeout(900)
async def test_a_hundred_rounds_of_delete_and_create_with_a_whole_status_each(make: Make, control_plane: Path) -> None:
    queue = make("again", autoscaler={"pollIntervalSeconds": 5}, wait=False)
    await asyncio.to_thread(until, lambda: is_whole(queue.status()), "the operator has started", seconds=60)
    api = await KubernetesApi.connect(str(control_plane))
    manifest = queue.manifest | {"metadata": {"name": "again", "namespace": queue.name}}
    slowest = 0.0
    try:
        live = await api.get(API, "TaskQueue", queue.name, "again")
        for number in range(ROUNDS):
            assert live is not None
            await api.delete(API, "TaskQueue", queue.name, "again", live["metadata"]["uid"])
            live = await api.create(manifest, "test")
            began, uid = asyncio.get_running_loop().time(), live["metadata"]["uid"]
            while not is_whole(live.get("status") or {}):
                waited = asyncio.get_running_loop().time() - began
                # The garbage collector looks for new kinds every 30 s; in the first round it may not know this one.
                assert waited < 60, f"round {number}: {live.get('status')}"
                await asyncio.sleep(0.02)
                live = await api.get(API, "TaskQueue", queue.name, "again")
                assert live is not None
                assert live["metadata"]["uid"] == uid
            slowest = max(slowest, asyncio.get_running_loop().time() - began)
    finally:
        await api.close()
    print(f"{ROUNDS} rounds, the slowest status was whole after {slowest:.2f} s")


def test_an_edited_status_is_put_right(make: Make) -> None:
    queue = make("edited-status")
    until(lambda: is_whole(queue.status()), "the status is whole")
    before = queue.status()
    lie = {"status": {"replicas": 40, "observedGeneration": 99, "selector": "a=b", "conditions": None}}
    queue("patch", "tq", "edited-status", "--subresource=status", "--type=merge", "-p", json.dumps(lie))

    def right() -> bool:
        status = queue.status()
        return is_whole(status) and all(status[name] == before[name] for name in lie["status"] if name != "conditions")

    until(right, "it is put right")
    # Figures of a standing queue may wait for a minute, and a wrong one may not; nor may a field that nobody writes.
    lie = {"status": {"totalBacklog": 1000, "queues": [], "schedules": [{"name": "ghost"}]}}
    queue("patch", "tq", "edited-status", "--subresource=status", "--type=merge", "-p", json.dumps(lie))

    def as_before() -> bool:
        status = queue.status()
        return all(status.get(name) == before.get(name) for name in lie["status"])

    until(as_before, "the figures are put right")


def test_two_addresses_of_one_redis_are_seen_as_one(make: Make, redis_server: RedisServer) -> None:
    """Another database of it has other queues."""
    written = [redis_server.url, f"redis://localhost:{redis_server.port}", f"redis://127.0.0.1:{redis_server.port}/1"]
    left, right, apart = [
        make(name, redis={"url": url, "keyPrefix": "spelled"})
        for name, url in zip(("one", "two", "apart"), written, strict=True)
    ]
    for one, other in ((left, "two"), (right, "one")):
        told = until(lambda one=one: (c := one.condition("QueueShared")).get("status") == "True" and c, "it is told")
        assert f"{one.name}/{other};" in told["message"]
    until(lambda: is_whole(apart.status()), "the third is told")
    assert not apart.condition("QueueShared")


def test_taskqueues_that_share_a_queue_are_named_and_divide_its_demand(make: Make, redis_server: RedisServer) -> None:
    def replicas() -> list[int]:
        return [left.replicas(), right.replicas()]

    tuned = {"minReplicas": 0, "maxReplicas": 5, "target": {"backlogPerReplica": 1}}
    worker = {"concurrency": 1}
    left = make("left", redis={"url": redis_server.url, "keyPrefix": "both"}, autoscaler=tuned, worker=worker)
    right = make("right", redis={"url": redis_server.url, "keyPrefix": "both"}, autoscaler=tuned, worker=worker)
    for one, other in ((left, "right"), (right, "left")):
        told = until(lambda one=one: (c := one.condition("QueueShared")).get("status") == "True" and c, "it is told")
        assert f"{one.name}/{other}" in told["message"]
        assert "50%" in told["message"]
    enqueue(redis_server, "both", 4)
    until(lambda: sum(replicas()) == 4, "four one-slot pods for four tasks", seconds=40)
    assert replicas() == [2, 2]
    right("delete", "tq", "right")
    until(lambda: left.condition("QueueShared")["status"] == "False", "it is alone again")


def test_dead_letters_are_told_in_a_condition_a_column_and_an_event(make: Make, redis_server: RedisServer) -> None:
    queue = make("letters", autoscaler={"mode": "Disabled"}, replicas=0)

    async def fail() -> None:
        settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix="letters"))
        async with TaskQueue(settings=settings) as app:

            @app.task(max_retries=0)
            async def broken() -> None:
                raise ValueError("always")

            handle = await broken.enqueue()
            await app.start_workers(1)
            with pytest.raises(TaskExecutionError):
                await handle.result(timeout=30)
            await app.stop_workers()

    asyncio.run(fail())
    told = until(lambda: (c := queue.condition("DeadLetters")).get("status") == "True" and c, "it is told")
    assert told["reason"] == "TasksFailedForGood"
    assert "Dead" in queue("get", "tq", "letters", "-o", "wide").splitlines()[0].title()
    until(lambda: queue.status().get("totalDead") == 1, "the column has it")

    def events() -> list[str]:
        found = queue.kubectl.json("get", "events", "-n", queue.name, "--field-selector", "reason=DeadLetters")
        return [event["message"] for event in found["items"] if event["involvedObject"]["name"] == "letters"]

    assert "taskfleet dead list default" in until(events, "there is an Event")[0]


def test_a_tick_of_a_schedule_from_python_brings_a_worker_from_zero(make: Make, redis_server: RedisServer) -> None:
    queue = make("ticking", autoscaler={"minReplicas": 0})
    assert queue.replicas() == 0

    async def schedule() -> None:
        settings = Settings(redis=RedisSettings(url=redis_server.url, key_prefix="ticking"))
        async with TaskQueue(settings=settings) as app:

            @app.task
            async def report() -> None: ...

            await app.add_schedule(name="often", schedule="*/5 * * * * *", task=report)

    asyncio.run(schedule())
    until(lambda: queue.replicas() >= 1, "cron counts, from zero")


def test_a_suspended_taskqueue_says_so(make: Make) -> None:
    queue = make("asleep", autoscaler={"minReplicas": 2})
    until(lambda: queue.replicas() == 2, "it is awake")
    queue("patch", "tq", "asleep", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: queue.replicas() == 0, "it is drained")
    until(lambda: queue.condition("Paused").get("reason") == "Suspended", "the status says so")
    until(lambda: queue.condition("ScalingActive").get("reason") == "Suspended", "of the autoscaler, too")


async def test_a_redis_that_talks_without_end_writes_no_long_status(make: Make) -> None:
    async with answering(b"-" + b"ERR \xff\x1b[31m" * 20_000 + b"\r\n") as url:

        def told() -> Queue:
            queue = make("hostile", redis={"url": url}, wait=False)
            until(lambda: queue.condition("RedisReachable").get("status") == "False", "it is told", seconds=40)
            return queue

        queue = await asyncio.to_thread(told)
        status = json.dumps(await asyncio.to_thread(queue.status))
        assert len(status) < 8000, len(status)
        assert "\x1b" not in status
        await asyncio.to_thread(queue, "delete", "tq", "hostile")
