"""The conversion of statistics from Redis into a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet_operator.autoscaler import NO_OVERRIDES, choose_victims
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.scaling import sampling
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.sampling import Reading, Replicas
from tests.unit.operator.builders import STATS, worker


class FakeBroker:
    """A broker that returns these statistics; a list of seconds gives the tasks due within the horizon."""

    def __init__(self, due: Sequence[float] = (), *, down: bool = False) -> None:
        self.due = due
        self.down = down
        self.horizons: list[int] = []

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        if self.down:
            raise BrokerConnectionError("redis:6379 refuses the connection")
        self.horizons.append(horizon_ms)
        return {name: replace(STATS, due=sum(at * 1000 <= horizon_ms for at in self.due)) for name in queues}

    async def workers(self) -> list[WorkerInfo]:
        return [worker("a")]


ORDER = ScalingOrder((QueueTarget("default", 10.0),), AutoscalerSpec(), NO_OVERRIDES, concurrency=4, processes=1)
PODS = Replicas(2, 1, 1, {"a": 60.0, "b": 60.0})


def pods(ages: dict[str, float]) -> Replicas:
    return Replicas(len(ages), 0, 0, ages)


async def test_due_work_is_read_for_both_horizons_only_when_there_is_any() -> None:
    spec = AutoscalerSpec()
    quiet = FakeBroker()
    await sampling.read(quiet, ["default"], spec, 5.0)
    assert quiet.horizons == [30_000]
    soon = FakeBroker([3.0, 12.0, 25.0])
    seen = (await sampling.observe(soon, ORDER, PODS, start_latency_seconds=5.0)).sample
    assert soon.horizons == [30_000, 10_000]
    assert (seen.queues[0].due, seen.queues[0].due_within_start) == (3, 1)


async def test_a_read_that_fails_is_a_failed_sample() -> None:
    observed = await sampling.observe(FakeBroker(down=True), ORDER, PODS)
    seen = observed.sample
    assert seen.failure == "redis:6379 refuses the connection"
    assert (seen.current_replicas, seen.ready_replicas, observed.reading, observed.workers) == (2, 1, None, None)


def build(*workers: WorkerInfo, stats: QueueStats = STATS, fires: Sequence[float] = ()) -> sampling.FleetSample:
    reading = Reading({"default": stats}, {"default": 0}, workers)
    return sampling.build(
        reading,
        ORDER,
        PODS,
        sampling.workers_of(reading, PODS),
        start_latency_seconds=5.0,
        scheduled={"default": fires},
    )


def test_only_our_own_pods_with_a_fresh_heartbeat_count() -> None:
    seen = build(worker("a/0", busy=1), worker("a/1"), worker("b", age=31), worker("of-another-queue", busy=3))
    assert (seen.workers_registered, seen.busy_workers) == (1, 1)


def test_a_paused_queue_wants_no_workers() -> None:
    queue = build(stats=replace(STATS, paused=True)).queues[0]
    assert (queue.backlog, queue.due, queue.oldest_age_seconds, queue.in_flight) == (0, 0, 0.0, 2)


def test_cron_schedules_count_as_due_work() -> None:
    queue = build(fires=[8.0, 20.0, 300.0]).queues[0]
    assert (queue.due, queue.due_within_start) == (3 + 2, 1)


def test_a_pod_is_busy_when_any_of_its_processes_is_and_drained_when_all_are() -> None:
    reading = Reading(
        {},
        {},
        (
            worker("a/0", state="drained", idle=9),
            worker("a/1", state="drained", idle=5),
            worker("b/0", state="drained"),
            worker("b/1", state="cordoned", busy=1),
        ),
    )
    found = {one.name: one for one in sampling.workers_of(reading, pods({"a": 60.0, "b": 60.0, "c": 1.0}))}
    assert (found["a"].drained, found["a"].idle_seconds) == (True, 5)
    assert (found["b"].drained, found["b"].busy) == (False, 1)
    assert not found["c"].registered


def test_victims_are_unregistered_then_longest_idle_then_newest() -> None:
    reading = Reading(
        {},
        {},
        (worker("busy", busy=1), worker("idle-9", idle=9), worker("old", idle=3), worker("new", idle=3)),
    )
    ages = {"busy": 50.0, "idle-9": 50.0, "old": 50.0, "new": 20.0, "unborn": 1.0}
    everyone = sampling.workers_of(reading, pods(ages))
    assert [one.name for one in choose_victims(everyone, 9)] == ["unborn", "idle-9", "new", "old"]
    assert [one.name for one in choose_victims(everyone, 2)] == ["unborn", "idle-9"]
    assert [one.name for one in choose_victims(everyone, 9, drain_busy=True)][-1] == "busy"


def test_a_replica_has_registered_when_all_its_processes_have() -> None:
    reading = Reading({}, {}, (worker("a/0"), worker("a/1"), worker("b/0"), worker("b/1", age=31)))
    found = sampling.workers_of(reading, PODS)
    assert sampling.registered_of(found, processes=2) == {"a"}
    assert sampling.registered_of(found, processes=1) == {"a", "b"}
