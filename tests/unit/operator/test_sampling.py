"""The conversion of statistics from Redis into a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.figures import Horizons
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet_operator.autoscaler import NO_OVERRIDES, ScalingState, choose_victims, decide
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from taskfleet_operator.scaling import sampling
from taskfleet_operator.scaling.order import QueueShare, QueueTarget, ScalingOrder, order_of
from taskfleet_operator.scaling.sampling import Reading, Replicas, by_name
from tests.support.manifests import GOOD
from tests.unit.operator.builders import STATS, worker


class FakeReader:
    """Keeps the horizons that it was asked for."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.horizons: Mapping[str, Horizons] = {}
        self.workers = False

    async def read(self, horizons: Mapping[str, Horizons], *, urgent: bool = False, workers: bool = True) -> Reading:
        if self.failure is not None:
            raise self.failure
        self.horizons, self.workers = horizons, workers
        return Reading(dict.fromkeys(horizons, STATS), by_name([worker("a")]))


ORDER = ScalingOrder((QueueTarget("default", 10.0),), AutoscalerSpec(), NO_OVERRIDES, concurrency=4, processes=1)
PODS = Replicas(2, 1, 1, {"a": 60.0, "b": 60.0})


def pods(ages: dict[str, float]) -> Replicas:
    return Replicas(len(ages), 0, 0, ages)


async def test_due_work_is_read_for_both_horizons() -> None:
    reader = FakeReader()
    await sampling.observe(reader, ORDER, PODS, start_latency_seconds=5.0)
    assert reader.horizons == {"default": (30_000, 10_000)}


async def test_without_pods_no_heartbeat_is_read() -> None:
    reader = FakeReader()
    await sampling.observe(reader, ORDER, pods({}))
    assert not reader.workers
    await sampling.observe(reader, ORDER, PODS)
    assert reader.workers


@pytest.mark.parametrize("error", [BrokerConnectionError("redis:6379 refuses the connection"), OSError("no route")])
async def test_a_read_that_fails_is_a_failed_sample(error: Exception) -> None:
    observed = await sampling.observe(FakeReader(error), ORDER, PODS)
    seen = observed.sample
    assert seen.failure == str(error)
    assert (seen.current_replicas, seen.ready_replicas, observed.reading, observed.workers) == (2, 1, None, None)


def build(*workers: WorkerInfo, stats: QueueStats = STATS, order: ScalingOrder = ORDER) -> sampling.FleetSample:
    reading = Reading({"default": stats}, by_name(workers))
    return sampling.build(reading, order, PODS, sampling.workers_of(reading, PODS), start_latency_seconds=5.0)


def test_only_our_own_pods_with_a_fresh_heartbeat_count() -> None:
    seen = build(worker("a/0", busy=1), worker("a/1"), worker("b", age=31), worker("of-another-queue", busy=3))
    assert (seen.workers_registered, seen.busy_workers) == (1, 1)


def test_a_paused_queue_wants_no_workers() -> None:
    queue = build(stats=replace(STATS, paused=True)).queues[0]
    assert (queue.backlog, queue.due, queue.oldest_age_seconds, queue.in_flight) == (0, 0, 0.0, 2)


def test_ticks_of_schedules_count_as_due_work() -> None:
    queue = build(stats=replace(STATS, due_soon=1, ticks_due=2, ticks_due_soon=1)).queues[0]
    assert (queue.due, queue.due_within_start) == (3 + 2, 1 + 1)


def test_the_limits_of_a_queue_are_those_of_the_manifest() -> None:
    resource = TaskQueueResource.model_validate(
        GOOD
        | {
            "spec": GOOD["spec"]
            | {
                "queues": [
                    {
                        "name": "default",
                        "rateLimit": {"tasksPerSecond": 20, "burst": 40},
                        "rateLimitPerKey": {"tasksPerSecond": 2, "burst": 4},
                        "concurrency": 7,
                        "concurrencyPerKey": 1,
                    }
                ]
            }
        }
    )
    queue = build(order=order_of(resource)).queues[0]
    assert (queue.rate_per_second, queue.concurrency) == (20.0, 7)
    assert (queue.rate_per_second_per_key, queue.concurrency_per_key) == (2.0, 1)
    free = build().queues[0]
    assert (free.rate_per_second, free.concurrency, free.rate_per_second_per_key) == (None, None, None)


def test_the_oldest_run_of_our_own_workers_is_known() -> None:
    old, foreign = replace(worker("a"), oldest_run_seconds=40.0), replace(worker("x"), oldest_run_seconds=900.0)
    assert build(old, worker("b"), foreign).oldest_run_seconds == 40.0


def test_the_parts_of_a_shared_queue_are_the_whole() -> None:
    thirds = [QueueShare(0, 1 / 3), QueueShare(1 / 3, 2 / 3), QueueShare(2 / 3, 1)]
    for count in range(200):
        assert sum(share.of(count) for share in thirds) == count


@pytest.mark.parametrize("others", [1, 3])
def test_a_part_that_changes_moves_no_counter(others: int) -> None:
    """A TaskQueue that comes or goes beside this one is no Redis that has lost its data, and no flood of tasks."""
    spec = AutoscalerSpec.model_validate({"maxReplicas": 50})
    replicas = Replicas(current=4, ready=4, pending=0, ages=dict.fromkeys("abcd", 100.0))
    state, decided = ScalingState.initial(4, 0.0), []
    for look in range(40):
        done = 1_000_000 + 50 * look
        stats = replace(
            STATS, ready=0, due=0, in_flight=8, runnable_total=done, attempts_total=done, busy_ms_total=done * 800
        )
        shares = {} if look % 20 < 10 else {"default": QueueShare(0, 1 / (1 + others))}
        order = ScalingOrder((QueueTarget("default"),), spec, NO_OVERRIDES, concurrency=4, processes=1).shared(shares)
        reading = Reading({"default": stats}, by_name(worker(name, busy=2) for name in "abcd"))
        made = sampling.build(reading, order, replicas, sampling.workers_of(reading, replicas))
        decided.append(decide(made, state, spec, now=5.0 * look))
        state = decided[-1].state
    assert {one.reason for one in decided} <= {"DrainTime", "WithinTolerance"}
    assert {one.limited_by for one in decided} <= {"", "ScaleDownStabilized", "JustStarted"}
    assert all(0.79 < one.queues[0].service_seconds < 0.81 for one in decided)
    rates = [one.queues[0].arrivals_per_second for one in decided]
    assert max(rates) < 10.1
    assert rates[-1] * (1 + others) == pytest.approx(10, rel=0.01)


def test_a_pod_is_busy_when_any_of_its_processes_is_and_drained_when_all_are() -> None:
    reading = Reading(
        {},
        by_name(
            (
                worker("a/0", state="drained", idle=9),
                worker("a/1", state="drained", idle=5),
                worker("b/0", state="drained"),
                worker("b/1", state="cordoned", busy=1),
            )
        ),
    )
    found = {one.name: one for one in sampling.workers_of(reading, pods({"a": 60.0, "b": 60.0, "c": 1.0}))}
    assert (found["a"].drained, found["a"].idle_seconds) == (True, 5)
    assert (found["b"].drained, found["b"].busy) == (False, 1)
    assert not found["c"].registered


def test_victims_are_unregistered_then_longest_idle_then_newest() -> None:
    reading = Reading(
        {}, by_name((worker("busy", busy=1), worker("idle-9", idle=9), worker("old", idle=3), worker("new", idle=3)))
    )
    ages = {"busy": 50.0, "idle-9": 50.0, "old": 50.0, "new": 20.0, "unborn": 1.0}
    everyone = sampling.workers_of(reading, pods(ages))
    assert [one.name for one in choose_victims(everyone, 9)] == ["unborn", "idle-9", "new", "old"]
    assert [one.name for one in choose_victims(everyone, 2)] == ["unborn", "idle-9"]
    assert [one.name for one in choose_victims(everyone, 9, drain_busy=True)][-1] == "busy"


def test_a_replica_has_registered_when_all_its_processes_have() -> None:
    reading = Reading({}, by_name((worker("a/0"), worker("a/1"), worker("b/0"), worker("b/1", age=31))))
    found = sampling.workers_of(reading, PODS)
    assert sampling.registered_of(found, processes=2) == {"a"}
    assert sampling.registered_of(found, processes=1) == {"a", "b"}
