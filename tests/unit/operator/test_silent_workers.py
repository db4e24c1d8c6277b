"""Workers whose heartbeats stop while they are busy: their tasks are theirs until the leases have run out."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet_operator.autoscaler import ScalingDecision, ScalingOverrides, ScalingState, WorkerSample, next_steps
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.sampling import Reading, Replicas, build, workers_of
from taskfleet_operator.scaling.silent_workers import SilentWorkers
from tests.unit.operator.builders import STATS, worker

SPEC = AutoscalerSpec(mode="Disabled")


def order(*, lease: float = 300, processes: int = 1) -> ScalingOrder:
    target = QueueTarget("default", lease_seconds=lease)
    return ScalingOrder((target,), SPEC, ScalingOverrides(), concurrency=4, processes=processes)


def look(
    silent: SilentWorkers, heartbeats: Sequence[WorkerInfo], now: float, asked: ScalingOrder | None = None
) -> dict[str, WorkerSample]:
    reading = reading_of(heartbeats)
    seen = workers_of(reading, PODS)
    return {one.name: one for one in silent.fill(seen, reading.workers, asked or order(), now)}


def reading_of(heartbeats: Sequence[WorkerInfo]) -> Reading:
    by_name: dict[str, list[WorkerInfo]] = {}
    for one in heartbeats:
        by_name.setdefault(one.name, []).append(one)
    return Reading({"default": STATS}, by_name)


PODS = Replicas(2, 2, 0, {"a": 900.0, "b": 900.0})


def test_a_busy_worker_is_busy_until_its_lease_has_run_out() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a", busy=2, age=1), worker("b")], 1000)
    for now, busy in ((1016, 2), (1303, 2), (1305, 0)):
        found = look(silent, [worker("b")], now)["a"]
        assert (found.busy, found.registered, found.silent) == (busy, busy > 0, busy > 0)


def test_a_worker_that_was_idle_may_have_claimed_before_the_heartbeat_that_did_not_come() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a"), worker("b")], 1000)
    for now, busy in ((1016, 1), (1303, 1), (1305, 0)):
        assert look(silent, [worker("b")], now)["a"].busy == busy


def test_a_worker_that_was_cordoned_and_idle_runs_nothing() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a", busy=2), worker("b")], 1000)
    look(silent, [worker("a", state="drained"), worker("b")], 1005)
    assert not look(silent, [worker("b")], 1010)["a"].registered


def test_a_worker_keeps_the_lease_and_the_processes_that_it_started_with() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a/0", busy=1), worker("a/1"), worker("b")], 1000, order(lease=300, processes=2))
    changed = order(lease=30)
    assert look(silent, [worker("a/1"), worker("b")], 1200, changed)["a"].busy == 1
    longer = SilentWorkers()
    look(longer, [worker("a", busy=1), worker("b")], 1000, order(lease=30))
    look(longer, [worker("a", busy=1), worker("b")], 1010, order(lease=300))
    assert look(longer, [worker("b")], 1200, order(lease=300))["a"].busy == 1


def test_nothing_falls_while_redis_is_away_and_leases_may_hold() -> None:
    silent, names = SilentWorkers(1000), ("a", "b")
    unread = "Redis cannot be read, and it has not been read yet, so that any worker may be busy; leases may hold for "
    assert silent.hold(1000, order(lease=30), names) == unread + "35 s"
    assert not silent.hold(1000, order(lease=30), ())
    assert not silent.hold(1035, order(lease=30), names)
    look(silent, [worker("a", busy=1), worker("b")], 1100, order(lease=30))
    assert silent.hold(1100, order(lease=30), names).endswith("and 1 worker was busy; leases may hold for 34 s")
    assert not silent.hold(1135, order(lease=30), names)
    look(silent, [worker("a"), worker("b")], 1200, order(lease=30))
    assert silent.hold(1200, order(lease=30), names).endswith("a worker may have claimed; leases may hold for 34 s")
    look(silent, [worker("a", state="drained"), worker("b", state="drained")], 1202, order(lease=30))
    assert not silent.hold(1203, order(lease=30), names)


def test_one_process_of_several_keeps_its_pod() -> None:
    silent, asked = SilentWorkers(), order(processes=2)
    look(silent, [worker("a/0", busy=1), worker("a/1"), worker("b/0"), worker("b/1")], 1000, asked)
    found = look(silent, [worker("a/1", state="drained"), worker("b/0"), worker("b/1")], 1020, asked)["a"]
    assert (found.busy, found.drained, found.silent) == (1, False, False)


def test_a_container_that_has_started_again_runs_none_of_the_earlier_tasks() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a", busy=2), worker("b")], 1000)
    assert look(silent, [worker("a/9"), worker("b")], 1020)["a"].busy == 0


def test_it_is_not_the_one_that_goes() -> None:
    silent = SilentWorkers()
    look(silent, [worker("a", busy=1), worker("b")], 1000)
    seen = tuple(look(silent, [worker("b")], 1020).values())
    decision = ScalingDecision(1, 2, "Disabled", "", "", {}, (), ScalingState.initial(2, 0))
    assert next_steps(decision, seen, {}, SPEC, 1020).cordon == ("b",)
    sample = build(reading_of([worker("b")]), order(), PODS, seen)
    assert (sample.busy_workers, sample.workers_registered) == (1, 1)
