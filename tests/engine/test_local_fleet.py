"""Worker processes in place of pods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskfleet import QueueStats, TaskQueue
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.autoscaler import ScalingDecision, ScalingOverrides
from taskfleet_operator.local import session
from taskfleet_operator.local.plan import LocalPlan, plan_of
from taskfleet_operator.local.process_fleet import LocalFleet
from taskfleet_operator.local.view import Picture
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.resource.manifest import parse
from taskfleet_operator.sampling import QueueTarget, read
from tests.engine.conftest import until
from tests.support.manifests import changed
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]

QUICK = {
    "maxReplicas": 2,
    "pollIntervalSeconds": 1,
    "cooldownSeconds": 1,
    "target": {"backlogPerReplica": 10},
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
}


class Notebook:
    """A view that records its calls."""

    def __init__(self) -> None:
        self.decisions: list[ScalingDecision] = []
        self.said: list[str] = []
        self.pictures: list[Picture] = []

    def picture(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def decided(self, decision: ScalingDecision) -> None:
        self.decisions.append(decision)

    def say(self, text: str) -> None:
        self.said.append(text)

    def worker_line(self, name: str, line: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def plan() -> LocalPlan:
    return LocalPlan(
        name="naps",
        app="tests.support.sleeping_app:queue",
        queues=(QueueTarget("default"),),
        concurrency=2,
        processes=1,
        drain_timeout_seconds=10,
        autoscaler=AutoscalerSpec.model_validate(QUICK),
        replicas=1,
        overrides=ScalingOverrides(),
        manifest_url="",
        key_prefix=f"local-{secrets.token_hex(4)}",
        environment={},
    )


@pytest.fixture(autouse=True)
def _worker_environment(plan: LocalPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", plan.key_prefix)
    monkeypatch.setenv("TASKFLEET_WORKERS__HEARTBEAT_INTERVAL", "0.2")


class Producer:
    def __init__(self, queue: TaskQueue, nap: Any) -> None:
        self._queue = queue
        self._nap = nap

    async def naps(self, count: int, seconds: float, **options: Any) -> None:
        await self._queue.enqueue_many([self._nap.options(**options).message(seconds) for _ in range(count)])

    async def stats(self) -> QueueStats:
        return await self._queue.queue_stats("default")


@pytest.fixture
async def producer(plan: LocalPlan, server: RedisServer) -> AsyncIterator[Producer]:
    queue = TaskQueue(settings=Settings(redis=RedisSettings(url=server.url, key_prefix=plan.key_prefix)))

    @queue.task(name="nap")
    async def nap(seconds: float) -> float:
        return seconds

    yield Producer(queue, nap)
    await queue.close()


@contextlib.asynccontextmanager
async def running_fleet(plan: LocalPlan, url: str, folder: Path) -> AsyncIterator[tuple[LocalFleet, RedisBroker]]:
    """A fleet that replaces dead workers, without an autoscaler."""
    broker = RedisBroker.from_url(url, prefix=plan.key_prefix)
    fleet = LocalFleet(plan, broker, url, folder)

    async def tend() -> None:
        while True:
            await fleet.tend(await read(broker, ["default"], plan.autoscaler, None))
            await asyncio.sleep(0.05)

    tending = asyncio.create_task(tend())
    try:
        yield fleet, broker
    finally:
        await end([tending])
        fleet.terminate()
        await until(lambda: not fleet.reap(), "all workers have ended")
        await broker.close()


async def test_a_burst_brings_workers_and_its_end_takes_them_away(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    notebook, stop = Notebook(), asyncio.Event()
    run = asyncio.create_task(session.run(plan, server.url, tmp_path, notebook, stop))
    await until(lambda: notebook.decisions, "a first decision")
    await producer.naps(40, 0.05)

    async def done() -> bool:
        return (await producer.stats()).finished_total == 40

    await until(done, "40 finished tasks")
    await until(lambda: notebook.pictures[-1].replicas == 0, "no worker is left")
    stop.set()
    outcome = await run
    assert outcome == session.Outcome(peak=2, left=0, drained=True)
    assert [(d.current, d.desired) for d in notebook.decisions if d.changed] == [(0, 2), (2, 0)]


async def test_the_first_task_wakes_the_fleet_long_before_the_poll(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    notebook, stop = Notebook(), asyncio.Event()
    lazy = replace(plan, autoscaler=plan.autoscaler.model_copy(update={"poll_interval_seconds": 600}))
    run = asyncio.create_task(session.run(lazy, server.url, tmp_path, notebook, stop))
    await until(lambda: notebook.decisions, "a first decision")
    await asyncio.sleep(0.5)  # the subscription is in place
    await producer.naps(1, 0.01)
    await until(lambda: notebook.decisions[-1].desired == 1, "a worker is asked for", seconds=2)
    stop.set()
    await run


async def test_a_busy_worker_is_not_the_one_that_goes(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(plan, server.url, tmp_path) as (fleet, broker):

        async def look() -> Any:
            return await read(broker, ["default"], plan.autoscaler, None)

        await fleet.scale(1, await look(), drain_busy=False)
        await until(lambda: fleet.counts().ready == 1, "the first worker is ready")
        await producer.naps(1, 12.0)  # longer than another worker takes to start on a busy machine
        busy = next(iter(fleet.workers))

        async def is_busy() -> bool:
            return any(worker.busy for worker in (await look()).workers)

        await until(is_busy, "the first worker is busy")
        await fleet.scale(3, await look(), drain_busy=False)
        await until(lambda: fleet.counts().ready == 3, "three workers are ready")
        await fleet.scale(0, await look(), drain_busy=False)
        await until(lambda: len(fleet.workers) == 1, "the idle ones have gone")
        assert list(fleet.workers) == [busy]
        assert fleet.replicas == 1


async def test_fleets_of_one_name_on_one_redis_have_workers_of_their_own(
    plan: LocalPlan, server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    async with (
        running_fleet(plan, server.url, tmp_path) as (first, broker),
        running_fleet(plan, server.url, tmp_path / "second") as (second, _),
    ):
        for fleet in (first, second):
            await fleet.scale(1, await read(broker, ["default"], plan.autoscaler, None), drain_busy=False)
        await until(lambda: first.counts().ready == second.counts().ready == 1, "each has a worker", seconds=60)
        assert {worker.name for worker in await broker.workers()} == {*first.workers, *second.workers}
        await first.scale(0, await read(broker, ["default"], plan.autoscaler, None), drain_busy=False)
        await until(lambda: not first.workers, "the worker of the first has left", seconds=60)
        assert [(worker.name, worker.state) for worker in await broker.workers()] == [(*second.workers, "running")]


async def test_a_suspended_fleet_finishes_its_running_tasks_and_ends(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(plan, server.url, tmp_path) as (fleet, broker):
        await fleet.scale(1, await read(broker, ["default"], plan.autoscaler, None), drain_busy=False)
        await producer.naps(4, 0.5)

        async def is_busy() -> bool:
            return any(worker.busy for worker in await broker.workers())

        await until(is_busy, "it runs a task")
        await fleet.scale(0, await read(broker, ["default"], plan.autoscaler, None), drain_busy=True)
        await until(lambda: not fleet.workers, "it has gone")
        stats = await producer.stats()
        assert (stats.in_flight, stats.failed_total, stats.ready + stats.finished_total) == (0, 0, 4)
        assert stats.ready > 0


async def test_demand_that_returns_keeps_those_that_were_about_to_leave(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(plan, server.url, tmp_path) as (fleet, broker):

        async def look() -> Any:
            return await read(broker, ["default"], plan.autoscaler, None)

        await fleet.scale(1, await look(), drain_busy=False)
        await producer.naps(1, 1.5)

        async def is_busy() -> bool:
            return any(worker.busy for worker in (await look()).workers)

        await until(is_busy, "it runs a task")
        await fleet.scale(0, await look(), drain_busy=True)
        assert len(fleet.leaving) == 1
        await fleet.scale(1, await look(), drain_busy=False)
        assert fleet.leaving == []
        await producer.naps(1, 0.01)

        async def both_done() -> bool:
            return (await producer.stats()).finished_total == 2

        await until(both_done, "it works on")
        assert fleet.replicas == 1


async def test_a_worker_that_dies_is_replaced(plan: LocalPlan, server: RedisServer, tmp_path: Path) -> None:
    async with running_fleet(plan, server.url, tmp_path) as (fleet, broker):
        events: list[str] = []
        fleet.on_event = events.append
        await fleet.scale(1, await read(broker, ["default"], plan.autoscaler, None), drain_busy=False)
        await until(lambda: fleet.counts().ready == 1, "it is ready")
        first = next(iter(fleet.workers.values()))
        os.kill(first.pid, 9)
        await until(lambda: fleet.workers and first.name not in fleet.workers, "another took its place")
        await until(lambda: fleet.counts().ready == 1, "and is ready")
        assert "ended with -9" in events[0]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 3),  # two workers have four slots; all three tasks run at once
        ({"concurrency": 1}, 1),
        ({"concurrencyPerKey": 1}, 1),
        ({"rateLimitPerKey": {"tasksPerSecond": 1, "burst": 2}}, 2),
    ],
    ids=lambda value: next(iter(value), "no limit") if isinstance(value, dict) else "",
)
async def test_workers_obey_the_limits_of_the_manifest(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path, options: dict[str, Any], most: int
) -> None:
    manifest = changed({"spec.queues": [{"name": "default", **options}], "spec.redis.keyPrefix": plan.key_prefix})
    environment = plan_of(parse(manifest, "orders.yaml"), tmp_path).environment
    two = plan.autoscaler.model_copy(update={"min_replicas": 2})
    limited = replace(plan, autoscaler=two, environment={"TASKFLEET_QUEUES": environment["TASKFLEET_QUEUES"]})
    notebook, stop = Notebook(), asyncio.Event()
    run = asyncio.create_task(session.run(limited, server.url, tmp_path, notebook, stop))
    await until(
        lambda: (
            [worker.state for worker in notebook.pictures[-1:] and notebook.pictures[-1].workers] == ["running"] * 2
        ),
        "two workers",
        seconds=60,
    )
    await producer.naps(3, 0.5, limit_key="customer")
    most_at_once = 0

    async def done() -> bool:
        nonlocal most_at_once
        stats = await producer.stats()
        most_at_once = max(most_at_once, stats.in_flight)
        return stats.finished_total == 3

    await until(done, "3 finished tasks")
    stop.set()
    await run
    assert most_at_once == most


async def test_an_app_that_cannot_be_imported_is_one_line(plan: LocalPlan, server: RedisServer, tmp_path: Path) -> None:
    stop = asyncio.Event()
    broken = replace(
        plan, app="no.such.module:queue", autoscaler=plan.autoscaler.model_copy(update={"min_replicas": 1})
    )
    with pytest.raises(ConfigurationError, match=r"the workers cannot start: .*no module 'no'"):
        await session.run(broken, server.url, tmp_path, Notebook(), stop)


async def test_a_redis_that_is_away_changes_nothing_and_its_return_is_noticed(plan: LocalPlan, tmp_path: Path) -> None:
    steady = replace(plan, autoscaler=plan.autoscaler.model_copy(update={"min_replicas": 1}))
    with RedisServer() as own:
        notebook, stop = Notebook(), asyncio.Event()
        run = asyncio.create_task(session.run(steady, own.url, tmp_path, notebook, stop))
        await until(lambda: notebook.pictures and notebook.pictures[-1].workers, "a worker")
        own.stop()
        await until(lambda: notebook.decisions[-1].reason == "SampleFailed", "the failure is seen", seconds=30)
        assert notebook.decisions[-1].desired == 1
        own.start()
        await until(lambda: not notebook.decisions[-1].state.failures, "the return is seen", seconds=30)
        assert notebook.decisions[-1].desired == 1
        stop.set()
        outcome = await run
    assert outcome.drained
