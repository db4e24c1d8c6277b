"""Worker processes in place of pods."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import sys
import time
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
from taskfleet_operator.kept_schedules import Owner
from taskfleet_operator.local import up
from taskfleet_operator.local.local_workers import LocalWorkers
from taskfleet_operator.local.manifest_redis import LocalRedis, ManifestRedis
from taskfleet_operator.local.plan import LocalPlan, plan_of
from taskfleet_operator.local.process_fleet import ProcessFleet
from taskfleet_operator.local.view import LineView, Picture, TableView
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.resource.manifest import parse
from taskfleet_operator.scaling.loop import ScalingLoop
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.shared_redis import SharedRedis
from tests.engine import conftest
from tests.engine.test_decision_history import looks
from tests.support.manifests import changed
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]

until = functools.partial(conftest.until, seconds=60.0)  # processes start, or end

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
        order=ScalingOrder(
            (QueueTarget("default"),),
            AutoscalerSpec.model_validate(QUICK),
            ScalingOverrides(),
            concurrency=2,
            processes=1,
        ),
        drain_timeout_seconds=10,
        owner=Owner("taskfleet up", "naps", ""),
        redis=ManifestRedis(LocalRedis(""), {}),
        key_prefix=f"local-{secrets.token_hex(4)}",
        environment={},
    )


@pytest.fixture(autouse=True)
def _worker_environment(plan: LocalPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", plan.key_prefix)
    monkeypatch.setenv("TASKFLEET_WORKERS__HEARTBEAT_INTERVAL", "0.2")


class Producer:
    def __init__(self, queue: TaskQueue, nap: Any, hold: Any) -> None:
        self._queue = queue
        self._nap = nap
        self._hold = hold

    async def naps(self, count: int, seconds: float, **options: Any) -> None:
        await self._queue.enqueue_many([self._nap.options(**options).message(seconds) for _ in range(count)])

    async def held(self, count: int, file: Path, **options: Any) -> None:
        """Tasks that run until there is this file."""
        await self._queue.enqueue_many([self._hold.options(**options).message(str(file)) for _ in range(count)])

    async def stats(self) -> QueueStats:
        return await self._queue.queue_stats("default")


@pytest.fixture
async def producer(plan: LocalPlan, server: RedisServer) -> AsyncIterator[Producer]:
    queue = TaskQueue(settings=Settings(redis=RedisSettings(url=server.url, key_prefix=plan.key_prefix)))

    @queue.task(name="nap")
    async def nap(seconds: float) -> float:
        return seconds

    @queue.task(name="hold")
    async def hold(file: str) -> None: ...

    yield Producer(queue, nap, hold)
    await queue.close()


def with_autoscaler(plan: LocalPlan, **fields: Any) -> LocalPlan:
    autoscaler = plan.order.autoscaler.model_copy(update=fields)
    return replace(plan, order=replace(plan.order, autoscaler=autoscaler))


class AskedFleet(ProcessFleet):
    """A fleet of the size that the test asks for: as `spec.replicas`, or by a pause, which lets busy workers drain."""

    def __init__(self, plan: LocalPlan, workers: LocalWorkers) -> None:
        super().__init__(plan.name, plan.order, workers, Notebook())
        self._asked = plan.order
        self.ask(0)

    def order(self) -> ScalingOrder:
        return self._asked

    def ask(self, replicas: int, *, drain_busy: bool = False) -> None:
        mode = "Managed" if drain_busy else "Disabled"
        overrides = ScalingOverrides(replicas=replicas, paused_replicas=replicas if drain_busy else None)
        autoscaler = self._asked.autoscaler.model_copy(update={"mode": mode})
        self._asked = replace(self._asked, autoscaler=autoscaler, overrides=overrides)


class Driven:
    """A running control loop, the workers that it keeps, and their broker."""

    def __init__(self, plan: LocalPlan, url: str, folder: Path) -> None:
        self.broker = RedisBroker.from_url(url, prefix=plan.key_prefix)
        self.workers = LocalWorkers(plan, url, folder)
        self.fleet = AskedFleet(plan, self.workers)
        self.redis = SharedRedis("Redis", self.broker, lambda _queue: self.loop.wake(work=True))
        self.loop = ScalingLoop(self.fleet, self.redis)

    def ask(self, replicas: int, *, drain_busy: bool = False) -> None:
        self.fleet.ask(replicas, drain_busy=drain_busy)
        self.loop.wake()

    @property
    def ready(self) -> int:
        return self.fleet.replicas().ready

    async def is_busy(self) -> bool:
        return any(worker.busy for worker in await self.broker.workers())

    async def states(self) -> list[str]:
        return [worker.state for worker in await self.broker.workers()]


@contextlib.asynccontextmanager
async def running_fleet(plan: LocalPlan, url: str, folder: Path) -> AsyncIterator[Driven]:
    """A fleet that has as many workers as the test asks for; none at first."""
    driven = Driven(plan, url, folder)

    async def tend() -> None:
        while True:
            driven.workers.tend()
            await asyncio.sleep(0.05)

    running = [asyncio.create_task(tend()), asyncio.create_task(driven.loop.run())]
    try:
        yield driven
    finally:
        await end(running)
        driven.workers.terminate()
        await until(lambda: not driven.workers.reap(), "all workers have ended")
        await driven.redis.close()
        await driven.broker.close()


async def test_a_burst_starts_workers_and_its_end_stops_them(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    notebook, stop = Notebook(), asyncio.Event()
    run = asyncio.create_task(up.run(plan, LocalRedis(server.url), tmp_path, notebook, stop))
    await until(lambda: notebook.decisions, "a first decision")
    await producer.naps(40, 0.05)

    async def done() -> bool:
        return (await producer.stats()).finished_total == 40

    await until(done, "40 finished tasks")
    await until(lambda: notebook.pictures[-1].replicas == 0, "no worker is left")
    stop.set()
    outcome = await run
    assert outcome == up.Outcome(peak=2, left=0, drained=True)
    first, *others = [(d.current, d.desired) for d in notebook.decisions if d.changed]
    assert first == (0, 2)
    # A look in the cooldown may find one worker enough, before all are too many.
    assert all(desired < current for current, desired in others)
    assert others[-1][1] == 0


async def test_the_first_task_wakes_the_fleet_long_before_the_poll(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    notebook, stop = Notebook(), asyncio.Event()
    lazy = with_autoscaler(plan, poll_interval_seconds=600)
    run = asyncio.create_task(up.run(lazy, LocalRedis(server.url), tmp_path, notebook, stop))
    await until(lambda: notebook.decisions, "a first decision")
    channel = f"{plan.key_prefix}:activity"
    await until(lambda: server.call("PUBSUB", "NUMSUB", channel)[1], "the subscription is in place")
    await producer.naps(1, 0.01)
    await until(lambda: notebook.decisions[-1].desired == 1, "a worker is asked for")
    stop.set()
    await run


async def test_a_busy_worker_is_not_the_one_that_goes(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(plan, server.url, tmp_path) as driven:
        driven.ask(1)
        await until(lambda: driven.ready == 1, "the first worker is ready")
        await producer.naps(1, 600.0)  # longer than other workers take to start on a busy machine
        busy = next(iter(driven.workers.all))
        await until(driven.is_busy, "the first worker is busy")
        driven.ask(3)
        await until(lambda: driven.ready == 3, "three workers are ready")
        driven.ask(0)
        await until(lambda: len(driven.workers.all) == 1, "the idle ones have gone")
        assert list(driven.workers.all) == [busy]
        assert driven.workers.wanted == 1
        os.kill(driven.workers.all[busy].pid, 9)  # the end of the fleet would wait for its task


async def test_fleets_of_one_name_on_one_redis_have_workers_of_their_own(
    plan: LocalPlan, server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    async with (
        running_fleet(plan, server.url, tmp_path) as first,
        running_fleet(plan, server.url, tmp_path / "second") as second,
    ):
        for driven in (first, second):
            driven.ask(1)
        await until(lambda: first.ready == second.ready == 1, "each has a worker")
        known = {worker.name for worker in await first.broker.workers()}
        assert known == {*first.workers.all, *second.workers.all}
        first.ask(0)
        await until(lambda: not first.workers.all, "the worker of the first has left")
        left = [(worker.name, worker.state) for worker in await first.broker.workers()]
        assert left == [(*second.workers.all, "running")]


async def test_a_suspended_fleet_finishes_its_running_tasks_and_ends(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(plan, server.url, tmp_path) as driven:
        driven.ask(1)
        await producer.naps(20, 5.0)  # some are still to run when the worker is told to end
        await until(driven.is_busy, "it runs a task")
        driven.ask(0, drain_busy=True)
        await until(lambda: not driven.workers.all, "it has gone")
        stats = await producer.stats()
        assert (stats.in_flight, stats.failed_total, stats.ready + stats.finished_total) == (0, 0, 20)
        assert stats.ready > 0


async def test_returning_demand_keeps_draining_workers(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    patient, go_on = replace(plan, drain_timeout_seconds=600), tmp_path / "go-on"
    async with running_fleet(patient, server.url, tmp_path) as driven:
        driven.ask(1)
        await producer.held(1, go_on)  # until it has been told to drain, and to stay
        await until(driven.is_busy, "it runs a task")

        async def in_state(state: str) -> bool:
            return await driven.states() == [state]

        driven.ask(0, drain_busy=True)
        await until(lambda: in_state("cordoned"), "it drains")
        driven.ask(1)
        await until(lambda: in_state("running"), "it stays")
        go_on.touch()
        await producer.naps(1, 0.01)

        async def both_done() -> bool:
            return (await producer.stats()).finished_total == 2

        await until(both_done, "it works on")
        assert driven.workers.wanted == 1


async def test_a_worker_that_dies_is_replaced(plan: LocalPlan, server: RedisServer, tmp_path: Path) -> None:
    async with running_fleet(plan, server.url, tmp_path) as driven:
        events: list[str] = []
        driven.workers.on_event = events.append
        driven.ask(1)
        await until(lambda: driven.ready == 1, "it is ready")
        first = next(iter(driven.workers.all.values()))
        os.kill(first.pid, 9)
        await until(lambda: driven.workers.all and first.name not in driven.workers.all, "another one runs")
        await until(lambda: driven.ready == 1, "and is ready")
        assert "ended with -9" in events[0]


async def test_a_worker_that_dies_while_it_drains_is_not_replaced(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async with running_fleet(replace(plan, drain_timeout_seconds=600), server.url, tmp_path) as driven:
        driven.ask(1)
        await producer.naps(1, 600.0)
        await until(driven.is_busy, "it runs a task")
        driven.ask(0, drain_busy=True)

        async def drains() -> bool:
            return await driven.states() == ["cordoned"]

        await until(drains, "it drains")
        os.kill(next(iter(driven.workers.all.values())).pid, 9)
        await until(lambda: not driven.workers.wanted and not driven.workers.all, "there are no workers")


@contextlib.asynccontextmanager
async def two_limited_workers(
    plan: LocalPlan, server: RedisServer, folder: Path, limits: dict[str, Any]
) -> AsyncIterator[None]:
    """A fleet of two workers that run, with these limits in its manifest."""
    manifest = changed({"spec.queues": [{"name": "default", **limits}], "spec.redis.keyPrefix": plan.key_prefix})
    environment = plan_of(parse(manifest, "orders.yaml"), folder).environment
    two = with_autoscaler(plan, min_replicas=2)
    limited = replace(two, environment={"TASKFLEET_QUEUES": environment["TASKFLEET_QUEUES"]})
    notebook, stop = Notebook(), asyncio.Event()
    run = asyncio.create_task(up.run(limited, LocalRedis(server.url), folder, notebook, stop))
    await until(
        lambda: (
            [worker.state for worker in notebook.pictures[-1:] and notebook.pictures[-1].workers] == ["running"] * 2
        ),
        "two workers",
    )
    try:
        yield
    finally:
        stop.set()
        await run


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 3), ({"concurrency": 1}, 1), ({"concurrencyPerKey": 1}, 1)],  # two workers have four slots
    ids=lambda value: next(iter(value), "no limit") if isinstance(value, dict) else "",
)
async def test_workers_obey_the_limits_of_the_manifest(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path, options: dict[str, Any], most: int
) -> None:
    go_on = tmp_path / "go-on"
    most_at_once = 0

    async def stats() -> QueueStats:
        nonlocal most_at_once
        found = await producer.stats()
        most_at_once = max(most_at_once, found.in_flight)
        return found

    async def so_many_run() -> bool:
        return (await stats()).in_flight == most

    async def done() -> bool:
        return (await stats()).finished_total == 3

    async with two_limited_workers(plan, server, tmp_path, options):
        await producer.held(3, go_on, limit_key="customer")
        await until(so_many_run, f"{most} tasks run")
        for _ in range(50):  # a second, in which one more would begin
            await stats()
            await asyncio.sleep(0.02)
        go_on.touch()
        await until(done, "3 finished tasks")
    assert most_at_once == most


async def test_workers_obey_the_rate_limit_of_the_manifest(
    plan: LocalPlan, producer: Producer, server: RedisServer, tmp_path: Path
) -> None:
    async def done() -> bool:
        return (await producer.stats()).finished_total == 5

    async with two_limited_workers(plan, server, tmp_path, {"rateLimitPerKey": {"tasksPerSecond": 1, "burst": 2}}):
        began = time.monotonic()
        await producer.naps(5, 0.0, limit_key="customer")
        await until(done, "5 finished tasks")
        assert time.monotonic() - began > 2.9, "after the first two, one comes each second"


async def test_an_app_that_cannot_be_imported_is_one_line(plan: LocalPlan, server: RedisServer, tmp_path: Path) -> None:
    stop = asyncio.Event()
    broken = replace(with_autoscaler(plan, min_replicas=1), app="no.such.module:queue")
    with pytest.raises(ConfigurationError, match=r"the workers cannot start: .*no module 'no'"):
        await up.run(broken, LocalRedis(server.url), tmp_path, Notebook(), stop)


async def test_a_redis_that_is_away_changes_nothing_and_its_return_is_noticed(plan: LocalPlan, tmp_path: Path) -> None:
    steady = with_autoscaler(plan, min_replicas=1)
    with RedisServer() as own:
        notebook, stop = Notebook(), asyncio.Event()
        run = asyncio.create_task(up.run(steady, LocalRedis(own.url), tmp_path, notebook, stop))
        await until(lambda: notebook.pictures and notebook.pictures[-1].workers, "a worker")
        own.stop()
        await until(lambda: notebook.decisions[-1].reason == "SampleFailed", "the failure is seen")
        assert notebook.decisions[-1].desired == 1
        own.start()
        await until(lambda: not notebook.decisions[-1].state.failures, "the return is seen")
        assert notebook.decisions[-1].desired == 1
        stop.set()
        outcome = await run
    assert outcome.drained


@pytest.mark.parametrize("kind", [LineView, TableView])
def test_each_view_says_what_limits_a_change(
    kind: type[LineView | TableView], capsys: pytest.CaptureFixture[str]
) -> None:
    look = next(iter(looks(1)))
    assert look.decision is not None
    view = kind()
    view.decided(replace(look.decision, current=0, desired=2, limited_by="ScaleUpLimit"))
    view.close()
    said = " ".join(capsys.readouterr().out.split())
    assert "workers 0 → 2" in said
    assert "(limited by ScaleUpLimit)" in said
