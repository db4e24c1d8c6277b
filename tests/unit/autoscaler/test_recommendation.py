"""The recommended number of replicas, before any step limits it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from taskfleet_operator.autoscaler import ScalingState, decide
from taskfleet_operator.autoscaler.history import Point, QueueHistory
from tests.unit.autoscaler.builders import NOW, STEADY, first, fresh, queue, sample, spec


def steady_arrivals(per_second: float, service: float, *, current: int) -> ScalingState:
    """A state after a minute of arrivals at one rate, each task running `service` seconds."""
    state = fresh(current)
    points = tuple(
        Point(NOW - age, 1000 + int((60 - age) * per_second), 1000, 500.0, service) for age in range(60, 0, -5)
    )
    return ScalingState(**{**state_fields(state), "queues": (QueueHistory("default", points),)})


def state_fields(state: ScalingState) -> dict[str, object]:
    return {name: getattr(state, name) for name in ScalingState.__dataclass_fields__}


@pytest.mark.parametrize(
    ("per_second", "backlog", "replicas"),
    [
        (40, 0, 4),  # 40·0.5/0.8 = 25 slots of 8
        (40, 12_000, 16),  # and 12000·0.5/60 = 100 more
        (0, 12_000, 13),
        (0, 1, 1),
    ],
)
def test_slots_keep_up_with_arrivals_and_drain_the_backlog_in_time(
    per_second: int, backlog: int, replicas: int
) -> None:
    state = steady_arrivals(per_second, 0.5, current=1)
    seen = sample(
        queue(backlog, runnable_total=1000 + 60 * per_second, attempts_total=1000, busy_ms_total=500_000), current=1
    )
    decision = decide(seen, state, spec(behavior=STEADY, panic={"mode": "Disabled"}), NOW)
    assert decision.desired == replicas
    assert decision.reason == "DrainTime"


def test_the_message_is_the_formula_with_its_numbers() -> None:
    state = steady_arrivals(40, 0.5, current=4)
    seen = sample(queue(2532, in_flight=20, runnable_total=3400), current=4)
    decision = decide(seen, state, spec(behavior=STEADY, panic={"mode": "Disabled"}), NOW)
    assert decision.message == "slots = 46.1 (steady 25.0 + drain 21.1) / 8 → 6"


def test_without_a_history_the_backlog_per_replica_rules_as_in_keda() -> None:
    new = queue(950, runnable_total=950, attempts_total=0, busy_ms_total=0)
    decision = first(sample(new), spec(behavior=STEADY))
    assert decision.desired == 10
    assert decision.reason == "BacklogPerReplica"
    assert decision.message == "no history yet: 950 waiting / 100 per replica → 10"


def test_a_guess_holds_no_replicas_once_run_times_are_known() -> None:
    rule = spec(behavior={"scaleDown": STEADY["scaleDown"] | {"stabilizationWindowSeconds": 120}})
    new = queue(950, runnable_total=950, attempts_total=0, busy_ms_total=0)
    guess = decide(sample(new, current=4), replace(fresh(4), recommendations=()), rule, NOW)
    assert guess.desired > 4
    known = queue(900, in_flight=8, runnable_total=950, attempts_total=50, busy_ms_total=2500)
    grown = sample(known, current=guess.desired)
    learnt = decide(grown, guess.state, rule, NOW + 5)
    assert learnt.desired == 1, "900 tasks of 50 ms"


@pytest.mark.parametrize(
    ("limits", "replicas"),
    [
        ({"concurrency": 1}, 1),
        ({"concurrency": 20}, 3),
        ({"rate_per_second": 0.05}, 1),
        ({"rate_per_second": 20.0}, 2),  # 20·0.5/0.8 = 12.5 slots of 8
        ({"concurrency": 10_000, "rate_per_second": 1e6}, 10),
    ],
)
def test_without_a_history_the_limits_of_the_queue_hold(limits: dict[str, float], replicas: int) -> None:
    """The very first tasks of a queue of which one may run at a time need one pod, and not one for each hundred."""
    new = queue(950, runnable_total=950, attempts_total=0, busy_ms_total=0, **limits)
    decision = first(sample(new), spec(behavior=STEADY))
    assert decision.desired == replicas
    assert decision.reason == "BacklogPerReplica"
    assert ("at most" in decision.message) is (replicas < 10)
    other = queue(500, name="other", runnable_total=500, attempts_total=0, busy_ms_total=0)
    assert first(sample(new, other), spec(behavior=STEADY)).desired <= replicas + 5


def test_chance_keeps_no_slots_above_the_limit_of_the_queue() -> None:
    state, one_slot = fresh(4), {"slots_per_replica": 1, "workers_registered": 4}
    limited = queue(5000, in_flight=1, concurrency=1, runnable_total=9000, oldest_age_seconds=50)
    decision = decide(sample(limited, current=4, busy_workers=1, **one_slot), state, spec(behavior=STEADY), NOW)
    assert decision.desired == 1, decision.message
    free = queue(0, in_flight=1, busy_ms_total=10_000_000)
    decision = decide(sample(free, current=4, busy_workers=1, **one_slot), state, spec(behavior=STEADY), NOW)
    assert decision.desired > 1, "without a limit chance counts"


def test_the_drain_time_is_never_shorter_than_e_times_the_start() -> None:
    slow = first(sample(queue(1000), start_latency_seconds=55.0), spec(behavior=STEADY, pollIntervalSeconds=5))
    assert slow.terms["effective_drain_seconds"] == pytest.approx(60 * math.e)
    quick = first(sample(queue(1000), start_latency_seconds=1.0), spec(behavior=STEADY))
    assert quick.terms["effective_drain_seconds"] == 60


def test_a_queue_s_own_target_is_its_drain_time() -> None:
    decision = first(sample(queue(1000, target_latency_seconds=20.0), start_latency_seconds=1.0), spec(behavior=STEADY))
    assert decision.queues[0].drain_seconds == 20
    assert decision.desired == math.ceil(1000 * 0.5 / 20 / 8)


def test_long_tasks_teach_their_length_while_they_run() -> None:
    rule = spec(behavior=STEADY, panic={"mode": "Disabled"})
    state = fresh(1)
    lengths = []
    for step in range(20):
        ran = step * 5 * 8  # eight slots, all running, none finished
        seen = sample(
            queue(100, in_flight=8, runnable_total=108, attempts_total=0, busy_ms_total=ran * 1000), current=1
        )
        decision = decide(seen, state, rule, NOW + step * 5)
        state = decision.state
        lengths.append(decision.terms["service_seconds"])
    assert lengths == sorted(lengths)
    assert lengths[-1] > 50


def test_one_odd_task_moves_the_run_time_little() -> None:
    state = steady_arrivals(0, 0.5, current=1)
    seen = sample(queue(10, attempts_total=1001, busy_ms_total=500_000 + 5_500), current=1)
    assert decide(seen, state, spec(), NOW).terms["service_seconds"] == pytest.approx((5 + 5.5) / 11)


@pytest.mark.parametrize(
    ("backlog", "current", "signals", "replicas"),
    [(30, 4, 2, 6), (30, 4, 1, 4), (20, 4, 5, 4), (3, 4, 2, 3), (3, 4, 1, 4)],
)
def test_threshold_steps_after_equal_signals_in_a_row(backlog: int, current: int, signals: int, replicas: int) -> None:
    rule = spec(policy="Threshold", behavior=STEADY)
    state = fresh(current)
    for step in range(signals):
        decision = decide(sample(queue(backlog), current=current), state, rule, NOW + step * 5)
        state = decision.state
    assert decision.desired == replicas


def test_threshold_wants_new_signals_after_it_has_scaled() -> None:
    rule = spec(policy="Threshold", behavior=STEADY)
    state = fresh(4)
    counts = [4]
    for step in range(5):
        decision = decide(sample(queue(100), current=counts[-1]), state, rule, NOW + step * 5)
        state = decision.state
        counts.append(decision.desired)
    assert counts == [4, 4, 6, 6, 8, 8]


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_looks_within_one_poll_interval_are_one_signal(signals: int) -> None:
    """Each pod that comes or goes wakes a look. A fleet that grows must not count its own pods as signals."""
    rule = spec(policy="Threshold", threshold={"consecutiveSignals": signals}, behavior=STEADY, pollIntervalSeconds=10)
    state, current, grown_at = fresh(2), 2, list[float]()
    for tenths in range(450):
        now = NOW + tenths / 10
        decision = decide(sample(queue(500), current=current), state, rule, now)
        state = decision.state
        if decision.desired > current:
            current = decision.desired
            grown_at.append(now - NOW)
    wanted = [(step + 1) * signals - 1 for step in range(9) if ((step + 1) * signals - 1) * 8 <= 44.9]
    assert grown_at == pytest.approx([8.0 * polls for polls in wanted], abs=0.2)


def test_failed_looks_within_one_poll_interval_are_one_failure() -> None:
    rule = spec(fallback={"behavior": "Static", "replicas": 9}, pollIntervalSeconds=10)
    state, told = fresh(3), list[tuple[float, str]]()
    for tenths in range(300):
        decision = decide(sample(current=3, failure="no answer"), state, rule, NOW + tenths / 10)
        state = decision.state
        if not told or told[-1][1] != decision.reason:
            told.append((tenths / 10, decision.reason))
    assert told == [(0.0, "SampleFailed"), (16.0, "Fallback")]
    assert decide(sample(current=3), state, rule, NOW + 30).state.failures == 0


def test_due_work_counts_like_ready_work_unless_prewarming_is_off() -> None:
    due = sample(queue(0, due=1600, due_within_start=1600), current=0)
    assert first(due, spec(behavior=STEADY)).desired == 2
    assert first(due, spec(behavior=STEADY, prewarm={"mode": "Disabled"})).desired == 0
