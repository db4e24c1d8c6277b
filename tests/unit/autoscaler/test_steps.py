"""The steps that limit the recommendation, and their order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskfleet_operator.autoscaler import (
    DrainingWorker,
    FleetSample,
    QueueSample,
    ScalingOverrides,
    ScalingState,
    WorkerSample,
    decide,
    next_steps,
)
from taskfleet_operator.autoscaler.history import Point, QueueHistory, Recommendation, ScaleEvent
from tests.unit.autoscaler.builders import NOW, STEADY, first, fresh, queue, sample, spec

CALM = {"mode": "Disabled"}


def load(replicas: float) -> QueueSample:
    """A queue that needs this many replicas of 8 slots: 960 tasks of 0.5 s in 60 s need one."""
    return queue(int(replicas * 960))


def test_panic_goes_up_at_once_and_holds_until_a_quiet_minute() -> None:
    rule = spec(behavior=STEADY)
    burst = decide(sample(load(6), current=2), fresh(2), rule, NOW)
    assert (burst.desired, burst.panicking) == (6, True)
    quiet = sample(load(0.5), current=6)
    held = decide(quiet, burst.state, rule, NOW + 59)
    assert (held.desired, held.reason) == (6, "Panic")
    assert "held until it has been quiet" in held.message
    assert decide(quiet, held.state, rule, NOW + 61).desired == 1


def test_a_task_older_than_its_target_adds_replicas_by_itself() -> None:
    late = queue(10, in_flight=32, busy_ms_total=1_140_000, oldest_age_seconds=61)  # 32 slots were busy for 20 s
    before = QueueHistory("default", (Point(NOW - 20, 1000, 1000, 500.0, 0.5, longest_seconds=0.5, idle_at=NOW - 99),))
    calm, rule = spec(behavior=STEADY, panic=CALM), spec(behavior=STEADY)
    state = replace(fresh(4), queues=(before,))
    decision = decide(sample(late, current=4, oldest_run_seconds=0.5), state, rule, NOW)
    assert (decision.desired, decision.panicking) == (6, True)  # (32 + 10) / 8, though the tasks are believed short
    assert "42.0 for tasks that would wait too long) / 8 → 6" in decision.message
    assert decide(sample(late, current=4, oldest_run_seconds=0.5), state, calm, NOW).desired == 6
    begun = replace(late, busy_ms_total=600_000)
    assert decide(sample(begun, current=4, oldest_run_seconds=0.5), state, calm, NOW).desired <= 4, (
        "the slots were not busy for long"
    )
    queued = replace(late, in_flight=31)
    free = decide(sample(queued, current=4, busy_workers=4, oldest_run_seconds=0.5), state, rule, NOW)
    assert (free.desired, free.panicking) == (4, False), "a slot is free: the task starts in a moment"


def test_replicas_stay_without_which_what_waits_would_be_late() -> None:
    """32 runs a second end on 4 replicas. 21 s are left of the 60, so a backlog of 500 takes three of them."""
    before = QueueHistory("default", (Point(NOW - 20, 1000, 360, 180.0, 0.5, longest_seconds=0.5, idle_at=NOW - 99),))
    state, rule = replace(fresh(4), queues=(before,)), spec(behavior=STEADY, panic=CALM)

    def decided(backlog: int, current: int = 4, **figures: int) -> tuple[int, str]:
        waiting = queue(backlog, **{"in_flight": 32, "oldest_age_seconds": 39, **figures})
        known = replace(state, last_current=current, last_desired=current)
        decision = decide(
            sample(waiting, current=current, workers_registered=4, oldest_run_seconds=0.5), known, rule, NOW
        )
        return decision.desired, decision.limited_by

    assert decided(500) == (3, "LateTasks")
    assert decided(800) == (4, "LateTasks")
    assert decided(800, current=6) == (5, "LateTasks"), "two of them have not started yet"
    assert decided(1000, current=6) == (6, "LateTasks")
    assert decided(2000) == (4, "LateTasks"), "it is no reason to grow before the time has come"
    assert decided(500, concurrency=8)[0] < 3, "more than its own limit the queue cannot use"
    assert decided(500, in_flight=31)[0] < 3, "a slot is free"


@pytest.mark.parametrize(("wants", "replicas"), [(9.0, 10), (10.9, 10), (11.2, 12), (8.9, 9), (8.8, 8)])
def test_a_tenth_more_or_less_is_not_worth_moving(wants: float, replicas: int) -> None:
    decision = first(sample(load(wants), current=10), spec(behavior=STEADY, panic=CALM))
    assert decision.desired == replicas
    assert (decision.reason == "WithinTolerance") == (replicas == 10)


def test_the_fleet_shrinks_only_to_a_number_that_was_enough_all_through_the_window() -> None:
    state = replace(fresh(8), recommendations=(Recommendation(NOW - 119, 6), Recommendation(NOW - 60, 3)))
    rule = spec(panic=CALM, behavior={"scaleDown": STEADY["scaleDown"] | {"stabilizationWindowSeconds": 120}})
    decision = decide(sample(load(2), current=8), state, rule, NOW)
    assert (decision.desired, decision.limited_by) == (6, "ScaleDownStabilized")
    assert decide(sample(load(2), current=8), decision.state, rule, NOW + 2).desired == 3


def test_the_fleet_grows_only_to_a_number_that_was_wanted_all_through_the_window() -> None:
    state = replace(fresh(2), recommendations=(Recommendation(NOW - 20, 3),))
    rule = spec(panic=CALM, behavior={"scaleUp": STEADY["scaleUp"] | {"stabilizationWindowSeconds": 30}})
    decision = decide(sample(load(9), current=2), state, rule, NOW)
    assert (decision.desired, decision.limited_by) == (3, "ScaleUpStabilized")


@pytest.mark.parametrize(
    ("current", "events", "replicas"),
    [
        (4, (), 14),  # 100 % or 10 pods, whichever is more
        (20, (), 40),
        (14, (ScaleEvent(NOW - 5, 10),), 14),  # the period began with 4
        (14, (ScaleEvent(NOW - 16, 10),), 28),  # that period is over
        (10, (ScaleEvent(NOW - 5, -4),), 28),  # deleted replicas count too
    ],
)
def test_growth_is_counted_from_the_start_of_the_period(
    current: int, events: tuple[ScaleEvent, ...], replicas: int
) -> None:
    state = replace(fresh(current), events=events)
    decision = decide(sample(load(100), current=current), state, spec(maxReplicas=200, maxPendingReplicas=200), NOW)
    assert decision.desired == replicas
    assert decision.limited_by == ("ScaleUpLimit")


@pytest.mark.parametrize(
    ("current", "events", "replicas"),
    [
        (10, (), 5),
        (5, (ScaleEvent(NOW - 30, -5),), 5),
        (5, (ScaleEvent(NOW - 61, -5),), 2),
        (10, (ScaleEvent(NOW - 9, 6),), 2),
    ],
)
def test_shrinking_is_counted_from_the_start_of_the_period(
    current: int, events: tuple[ScaleEvent, ...], replicas: int
) -> None:
    state = replace(fresh(current), events=events, recommendations=())
    rule = spec(panic=CALM, behavior={"scaleDown": {"stabilizationWindowSeconds": 0}})
    decision = decide(sample(load(0.1), current=current), state, rule, NOW)
    assert decision.desired == replicas
    assert decision.limited_by == "ScaleDownLimit"


@pytest.mark.parametrize("direction", ["scaleUp", "scaleDown"])
def test_a_disabled_direction_is_not_taken(direction: str) -> None:
    rule = spec(panic=CALM, behavior={direction: {"selectPolicy": "Disabled"}})
    wants = 50 if direction == "scaleUp" else 0.1
    assert decide(sample(load(wants), current=5), replace(fresh(5), recommendations=()), rule, NOW).desired == 5


def test_the_selected_policy_is_the_one_that_changes_least_or_most() -> None:
    policies = [
        {"type": "Percent", "value": 100, "periodSeconds": 15},
        {"type": "Pods", "value": 3, "periodSeconds": 15},
    ]
    for select, replicas in (("Min", 13), ("Max", 20)):
        rule = spec(behavior={"scaleUp": {"selectPolicy": select, "policies": policies}})
        assert first(sample(load(40), current=10), rule).desired == replicas


def test_no_more_pods_are_asked_for_than_may_be_pending() -> None:
    rule = spec(behavior=STEADY, maxPendingReplicas=5)
    decision = first(sample(load(40), current=10, pending_replicas=3, ready_replicas=7), rule)
    assert (decision.desired, decision.limited_by) == (12, "MaxPendingReplicas")


def test_busy_workers_are_a_floor() -> None:
    seen = sample(load(0.5), current=10, busy_workers=7, slots_per_replica=1)
    decision = first(seen, spec(behavior=STEADY, panic=CALM, maxReplicas=9))
    assert (decision.desired, decision.limited_by, decision.drains_busy) == (7, "BusyWorkers", False)


@pytest.mark.parametrize(("running", "replicas", "drains_busy"), [(7, 1, True), (24, 3, True), (56, 7, False)])
def test_tasks_that_fit_into_fewer_workers_are_no_floor(running: int, replicas: int, *, drains_busy: bool) -> None:
    seen = sample(queue(0, in_flight=running), current=10, busy_workers=7)
    decision = first(seen, spec(behavior=STEADY, panic=CALM))
    assert (decision.desired, decision.drains_busy) == (replicas, drains_busy)


def test_the_limits_are_the_last_word() -> None:
    assert first(sample(load(40), current=10, busy_workers=10), spec(behavior=STEADY, maxReplicas=4)).desired == 4
    low = first(sample(load(0.1), current=1), spec(behavior=STEADY, minReplicas=3))
    assert (low.desired, low.limited_by) == (3, "TooFewReplicas")


def test_a_decision_that_was_not_applied_does_not_count_against_the_rates() -> None:
    rule = spec(maxReplicas=200, maxPendingReplicas=200)
    state = decide(sample(load(100), current=4), fresh(4), rule, NOW).state
    assert decide(sample(load(100), current=4), state, rule, NOW + 5).desired == 14
    applied = decide(sample(load(100), current=14), state, rule, NOW + 5)
    assert applied.desired == 14
    assert decide(sample(load(100), current=14), applied.state, rule, NOW + 15).desired == 28


class TestZero:
    def test_only_after_the_cooldown(self) -> None:
        still = sample(queue(0), current=3)
        rule = spec(behavior=STEADY)
        early = first(still, rule, last_active=NOW - 299)
        assert (early.desired, early.limited_by) == (1, "Cooldown")
        late = first(still, rule, last_active=NOW - 300)
        assert (late.desired, late.reason) == (0, "Idle")

    @pytest.mark.parametrize("work", [{"backlog": 1}, {"in_flight": 1}, {"due_within_start": 1, "due": 1}])
    def test_not_while_anything_waits_runs_or_is_due(self, work: dict[str, int]) -> None:
        rule = spec(behavior=STEADY, cooldownSeconds=0)
        assert first(sample(queue(**work), current=1), rule, last_active=NOW - 9999).desired == 1

    def test_is_not_delayed_by_stabilisation_windows(self) -> None:
        state = replace(fresh(3, last_active=NOW - 300), recommendations=(Recommendation(NOW - 5, 3),))
        assert decide(sample(queue(0), current=3), state, spec(), NOW).desired == 0

    def test_a_task_between_two_looks_is_activity(self) -> None:
        state = first(sample(queue(0), current=1), spec(), last_active=NOW - 290).state
        came_and_went = sample(queue(0, runnable_total=1001, attempts_total=1001), current=1)
        assert decide(came_and_went, state, spec(), NOW + 11).desired == 1

    def test_a_restart_looks_for_itself_before_it_believes_an_old_time(self) -> None:
        state = ScalingState.initial(1, NOW, last_active=NOW - 9999)
        seen = decide(sample(queue(0), current=1), state, spec(), NOW)
        assert seen.desired == 1
        assert decide(sample(queue(0), current=1), seen.state, spec(), NOW + 60).desired == 0

    def test_minimum_above_zero_is_kept(self) -> None:
        assert first(sample(queue(0), current=2), spec(minReplicas=2), last_active=0.0).desired == 2


class TestFromZero:
    def test_the_first_task_wakes_the_queue(self) -> None:
        decision = first(sample(queue(1)), spec())
        assert (decision.desired, decision.current) == (1, 0)

    def test_a_backlog_up_to_the_activation_does_not(self) -> None:
        rule = spec(activation={"backlog": 5})
        assert first(sample(queue(5)), rule).desired == 0
        assert first(sample(queue(6)), rule).desired == 1

    def test_a_task_due_before_a_worker_could_start_does(self) -> None:
        decision = first(sample(queue(0, delayed=1, due=1, due_within_start=1)), spec())
        assert decision.desired == 1
        assert first(sample(queue(0, delayed=1, due=1, due_within_start=0)), spec()).desired == 0

    def test_tasks_of_workers_that_are_gone_do(self) -> None:
        decision = first(sample(queue(0, in_flight=2)), spec())
        assert (decision.desired, decision.reason) == (1, "Activated")
        assert decision.message == "2 claimed by workers that are gone → 1"

    def test_an_up_window_does_not_delay_the_first_one(self) -> None:
        rule = spec(behavior={"scaleUp": {"stabilizationWindowSeconds": 300}})
        asleep = first(sample(queue(0)), rule)
        assert decide(sample(queue(900)), asleep.state, rule, NOW + 5).desired == 1

    def test_percent_policies_alone_allow_the_first_one(self) -> None:
        rule = spec(behavior={"scaleUp": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}})
        assert first(sample(load(10)), rule).desired == 1


class TestOverrides:
    @pytest.mark.parametrize(
        ("overrides", "busy", "replicas", "reason"),
        [
            (ScalingOverrides(suspend=True), 4, 0, "Suspended"),
            (ScalingOverrides(paused=True), 4, 4, "Paused"),
            (ScalingOverrides(paused_replicas=7), 4, 7, "Paused"),
            (ScalingOverrides(suspend=True, paused=True), 4, 0, "Suspended"),
        ],
    )
    def test_suspend_and_pause_come_before_the_work(
        self, overrides: ScalingOverrides, busy: int, replicas: int, reason: str
    ) -> None:
        decision = first(sample(load(30), current=4, busy_workers=busy, overrides=overrides), spec())
        assert (decision.desired, decision.reason) == (replicas, reason)

    def test_one_direction_may_be_paused(self) -> None:
        no_in, no_out = ScalingOverrides(paused_scale_in=True), ScalingOverrides(paused_scale_out=True)
        rule = spec(behavior=STEADY, panic=CALM)
        assert first(sample(load(0.1), current=4, overrides=no_in), rule).desired == 4
        assert first(sample(load(9), current=4, overrides=no_in), rule).desired == 9
        assert first(sample(load(9), current=4, overrides=no_out), rule).desired == 4
        assert first(sample(load(1), current=4, overrides=no_out), rule).desired == 1

    def test_forced_activation_keeps_one(self) -> None:
        forced = ScalingOverrides(force_activation=True)
        assert first(sample(queue(0), overrides=forced), spec()).desired == 1
        assert first(sample(queue(0), current=1, overrides=forced), spec(), last_active=0.0).desired == 1


class TestDisabled:
    @pytest.mark.parametrize(
        ("overrides", "desired", "reason"),
        [
            (ScalingOverrides(replicas=3), 3, "Disabled"),
            (ScalingOverrides(replicas=3, paused=True), 3, "Disabled"),
            (ScalingOverrides(replicas=3, paused_replicas=7), 3, "Disabled"),
            (ScalingOverrides(replicas=3, suspend=True), 0, "Suspended"),
        ],
    )
    def test_spec_replicas_is_the_number_unless_suspended(
        self, overrides: ScalingOverrides, desired: int, reason: str
    ) -> None:
        seen = sample(load(9), current=5, overrides=overrides)
        decision = first(seen, spec(mode="Disabled"))
        assert (decision.desired, decision.reason, decision.limited_by) == (desired, reason, "")

    def test_it_needs_no_sample(self) -> None:
        failed = FleetSample.failed("redis:6379 refuses", 5, 5, ScalingOverrides(replicas=3))
        decision = first(failed, spec(mode="Disabled", fallback={"failureThreshold": 1, "behavior": "Static"}))
        assert (decision.desired, decision.reason, decision.fallback) == (3, "Disabled", False)

    def test_a_suspect_sample_does_not_wake_a_suspended_queue(self) -> None:
        state = replace(fresh(0), queues=(QueueHistory("default", (Point(NOW - 5, 9999, 9999, 0.0, 0.5),)),))
        overrides = ScalingOverrides(replicas=3, suspend=True)
        assert decide(sample(load(1), overrides=overrides), state, spec(mode="Disabled"), NOW).desired == 0


ANNOTATED = {
    "none": (ScalingOverrides(replicas=3), 9, "DrainTime"),
    "paused": (ScalingOverrides(replicas=3, paused=True), 5, "Paused"),
    "paused-replicas": (ScalingOverrides(replicas=3, paused_replicas=7), 7, "Paused"),
    "paused-scale-in": (ScalingOverrides(replicas=3, paused_scale_in=True), 9, "DrainTime"),
    "paused-scale-out": (ScalingOverrides(replicas=3, paused_scale_out=True), 5, "DrainTime"),
    "force-activation": (ScalingOverrides(replicas=3, force_activation=True), 9, "DrainTime"),
}


class TestWhoWins:
    """suspend before the mode, the mode before the annotations: with a sample, and without one."""

    @pytest.mark.parametrize("readable", [True, False])
    @pytest.mark.parametrize("annotation", ANNOTATED)
    @pytest.mark.parametrize("mode", ["Managed", "Recommend", "Disabled"])
    @pytest.mark.parametrize("suspend", [True, False])
    def test_every_combination(self, *, suspend: bool, mode: str, annotation: str, readable: bool) -> None:
        overrides, wanted, reason = ANNOTATED[annotation]
        overrides = replace(overrides, suspend=suspend)
        seen = sample(load(9), current=5, overrides=overrides)
        if not readable:
            seen = FleetSample.failed("redis:6379 refuses", 5, 5, overrides)
            wanted, reason = (wanted, reason) if reason == "Paused" else (5, "SampleFailed")
        if mode == "Disabled":
            wanted, reason = 3, "Disabled"
        if suspend:
            wanted, reason = 0, "Suspended"
        rule = spec(mode=mode, behavior=STEADY, panic=CALM)
        decision = first(seen, rule)
        assert (decision.desired, decision.reason) == (wanted, reason)
        advice = mode == "Recommend" and not suspend
        assert decision.advice is advice
        drained = [WorkerSample(f"w{n}", registered=True, drained=True, marked=True) for n in range(5)]
        draining = {worker.name: DrainingWorker(0.0, 0.0) for worker in drained}
        for workers in (drained, None):
            carried_out = next_steps(decision, workers, draining if workers and not advice else {}, rule, NOW)
            assert carried_out.replicas == (5 if advice else wanted)


class TestWithoutASample:
    def fail(self, times: int, current: int, **fallback: object) -> tuple[int, str]:
        rule = spec(fallback={"failureThreshold": 3, **fallback})
        state = fresh(current)
        for step in range(times):
            decision = decide(FleetSample.failed("redis:6379 refuses", current, current), state, rule, NOW + step * 5)
            state = decision.state
        return decision.desired, decision.reason

    def test_nothing_changes_until_the_failure_threshold(self) -> None:
        assert self.fail(2, 5, behavior="Static", replicas=9) == (5, "SampleFailed")

    @pytest.mark.parametrize(
        ("behavior", "current", "replicas"),
        [
            ("CurrentReplicas", 5, 5),
            ("Static", 5, 9),
            ("CurrentReplicasIfHigher", 5, 9),
            ("CurrentReplicasIfHigher", 12, 12),
            ("CurrentReplicasIfLower", 5, 5),
            ("CurrentReplicasIfLower", 12, 9),
        ],
    )
    def test_then_the_fallback_applies(self, behavior: str, current: int, replicas: int) -> None:
        assert self.fail(3, current, behavior=behavior, replicas=9) == (replicas, "Fallback")

    def test_a_fallback_never_goes_to_zero(self) -> None:
        assert self.fail(3, 5, behavior="Static", replicas=0) == (1, "Fallback")

    def test_one_good_sample_ends_the_count(self) -> None:
        state = fresh(5)
        for seen in (FleetSample.failed("x", 5, 5), FleetSample.failed("x", 5, 5), sample(load(5), current=5)):
            state = decide(seen, state, spec(), NOW).state
        assert state.failures == 0


class TestSuspectSamples:
    def test_counters_that_went_backwards_are_held_for_a_down_window(self) -> None:
        rule = spec(
            behavior=STEADY | {"scaleDown": STEADY["scaleDown"] | {"stabilizationWindowSeconds": 100}},
            cooldownSeconds=0,
        )
        state = decide(sample(load(6), current=6), fresh(6), rule, NOW).state
        emptied = sample(queue(0, runnable_total=0, attempts_total=0, busy_ms_total=0), current=6)
        held = decide(emptied, state, rule, NOW + 5)
        assert (held.desired, held.reason) == (6, "SuspectSample")
        assert decide(emptied, held.state, rule, NOW + 100).desired == 6
        assert decide(emptied, held.state, rule, NOW + 106).desired == 0

    def test_silence_under_ready_pods_takes_nothing_away_but_is_believed_in_the_end(self) -> None:
        rule = spec(
            behavior=STEADY | {"scaleDown": STEADY["scaleDown"] | {"stabilizationWindowSeconds": 60}},
            cooldownSeconds=0,
            panic=CALM,
        )
        silent = sample(queue(0), current=3, workers_registered=0)
        state = replace(fresh(3, last_active=0.0), recommendations=())
        first_look = decide(silent, state, rule, NOW)
        assert first_look.desired == 3
        assert decide(silent, first_look.state, rule, NOW + 59).desired == 3
        assert decide(silent, first_look.state, rule, NOW + 61).desired == 0

    def test_silence_does_not_forbid_more_workers(self) -> None:
        assert first(sample(load(6), current=3, workers_registered=0), spec(behavior=STEADY)).desired == 6


def test_a_restart_scales_nothing_down_within_the_window() -> None:
    rule = spec(panic=CALM)
    state = ScalingState.initial(12, NOW)
    decision = decide(sample(load(0.5), current=12), state, rule, NOW + 119)
    assert decision.desired == 12
    assert decide(sample(load(0.5), current=12), decision.state, rule, NOW + 121).desired == 6


def test_a_restart_scales_nothing_down_before_its_rates_are_full() -> None:
    rule = spec(panic=CALM, behavior=STEADY)
    early = decide(sample(load(0.5), current=12), ScalingState.initial(12, NOW), rule, NOW + 59)
    assert (early.desired, early.limited_by) == (12, "JustStarted")
    assert decide(sample(load(0.5), current=12), early.state, rule, NOW + 61).desired == 1
