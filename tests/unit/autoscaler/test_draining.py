"""Cordon, wait, uncordon: the steps from one number of replicas to another, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet_operator.autoscaler import (
    DrainingWorker,
    ScalingDecision,
    ScalingState,
    ScalingSteps,
    WorkerSample,
    cordon_seconds,
    next_steps,
)
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec

NOW = 1000.0
SPEC = AutoscalerSpec.model_validate({"scaleDown": {"drainTimeoutSeconds": 600}})
STATE = ScalingState.initial(0, NOW)


def decided(current: int, desired: int, *, reason: str = "DrainTime", limited_by: str = "") -> ScalingDecision:
    return ScalingDecision(desired, current, reason, "", limited_by, {}, (), STATE)


def idle(name: str, seconds: float = 5.0) -> WorkerSample:
    return WorkerSample(name, registered=True, idle_seconds=seconds, age_seconds=100.0)


def busy(name: str) -> WorkerSample:
    return WorkerSample(name, registered=True, busy=1, age_seconds=100.0)


def cordoned(name: str) -> WorkerSample:
    return replace(busy(name), cordoned=True)


def drained(name: str) -> WorkerSample:
    return replace(idle(name), cordoned=True, drained=True)


def unborn(name: str) -> WorkerSample:
    return WorkerSample(name, registered=False, age_seconds=1.0)


def ago(seconds: float, *, marked: float | None = None) -> DrainingWorker:
    return DrainingWorker(NOW - seconds, None if marked is None else NOW - marked)


def steps(
    decision: ScalingDecision,
    workers: list[WorkerSample] | None,
    draining: dict[str, DrainingWorker] | None = None,
    spec: AutoscalerSpec = SPEC,
    **options: Any,
) -> ScalingSteps:
    options = {"settle_seconds": 2.0, **options}
    return next_steps(decision, workers, draining or {}, spec, NOW, **options)


def test_more_replicas_are_asked_for_at_once() -> None:
    assert steps(decided(1, 3), [busy("a")]) == ScalingSteps(3)


def test_fewer_replicas_begin_with_a_cordon() -> None:
    found = steps(decided(3, 2), [busy("a"), idle("b", 9), idle("c", 3)])
    assert found == ScalingSteps(3, cordon=("b",), draining={"b": DrainingWorker(NOW)})


@pytest.mark.parametrize(
    ("reason", "limited_by", "chosen"),
    [
        ("DrainTime", "", ()),
        ("Suspended", "", ("a",)),
        ("Paused", "", ("a",)),
        ("DrainTime", "TooManyReplicas", ("a",)),
    ],
)
def test_a_busy_worker_drains_only_when_the_user_wants_fewer(
    reason: str, limited_by: str, chosen: tuple[str, ...]
) -> None:
    assert steps(decided(1, 0, reason=reason, limited_by=limited_by), [busy("a")]).cordon == chosen


@pytest.mark.parametrize(
    ("worker", "entry", "expected"),
    [
        pytest.param(cordoned("a"), ago(10), ScalingSteps(2, draining={"a": ago(10)}), id="it still drains"),
        pytest.param(
            drained("a"), ago(10), ScalingSteps(2, mark=("a",), draining={"a": ago(10, marked=0)}), id="it is drained"
        ),
        pytest.param(
            drained("a"), ago(10, marked=1), ScalingSteps(2, draining={"a": ago(10, marked=1)}), id="the mark settles"
        ),
        pytest.param(drained("a"), ago(10, marked=2), ScalingSteps(1, removed=("a",)), id="the mark has settled"),
        pytest.param(cordoned("a"), ago(601), ScalingSteps(2, uncordon=("a",)), id="it takes too long"),
        pytest.param(
            cordoned("a"), ago(601, marked=1), ScalingSteps(2, uncordon=("a",), unmark=("a",)), id="it claims again"
        ),
        pytest.param(
            drained("a"),
            ago(631, marked=1),
            ScalingSteps(2, cordon=("a",), draining={"a": ago(0, marked=1)}),
            id="its cordon is renewed before it expires",
        ),
        pytest.param(
            unborn("a"), ago(601), ScalingSteps(2, mark=("a",), draining={"a": ago(601, marked=0)}), id="it never began"
        ),
    ],
)
def test_a_draining_worker_is_marked_removed_or_given_up(
    worker: WorkerSample, entry: DrainingWorker, expected: ScalingSteps
) -> None:
    assert steps(decided(2, 1), [worker, busy("b")], {"a": entry}) == expected


@pytest.mark.parametrize("reason", ["Suspended", "Paused", "Disabled"])
def test_no_worker_is_given_up_while_the_user_wants_none(reason: str) -> None:
    """It would claim what the user has stopped."""
    stopped = decided(2, 0, reason=reason)
    draining = {"a": ago(629), "b": ago(629)}
    assert steps(stopped, [cordoned("a"), cordoned("b")], draining) == ScalingSteps(2, draining=draining)
    late = {"a": ago(631), "b": ago(631, marked=1)}
    renewed = steps(stopped, [cordoned("a"), drained("b")], late)
    assert (renewed.uncordon, renewed.cordon, renewed.removed) == ((), ("a", "b"), ())
    assert renewed.draining == {"a": ago(0), "b": ago(0, marked=1)}


def test_a_worker_that_takes_too_long_is_given_up_when_the_user_wants_fewer_and_not_none() -> None:
    assert steps(decided(2, 1, reason="Paused"), [cordoned("a"), busy("b")], {"a": ago(601)}).uncordon == ("a",)
    assert steps(decided(1, 0, reason="Idle"), [cordoned("a")], {"a": ago(601)}).uncordon == ("a",)


def test_a_victim_of_this_look_may_wait_for_a_busy_worker_that_is_not_ready() -> None:
    found = steps(decided(2, 1), [unborn("a"), not_ready(busy("b"))], settle_seconds=0.0)
    assert (found.replicas, found.removed, found.waits_for) == (2, (), ("b",))
    assert found.draining == {"a": ago(0, marked=0)}


def test_a_worker_is_not_given_up_before_a_heartbeat_can_show_that_it_is_drained() -> None:
    at_once = AutoscalerSpec.model_validate({"scaleDown": {"drainTimeoutSeconds": 0}})
    silent = replace(idle("a"), cordoned=False)
    waiting = steps(decided(2, 1), [silent, busy("b")], {"a": ago(3)}, at_once)
    assert (waiting.uncordon, waiting.draining) == ((), {"a": ago(3)})
    given_up = steps(decided(2, 1), [cordoned("a"), busy("b")], {"a": ago(6)}, at_once)
    assert given_up.uncordon == ("a",)


def test_without_a_time_to_settle_a_drained_worker_goes_in_the_same_look() -> None:
    found = steps(decided(2, 1), [unborn("a"), busy("b")], settle_seconds=0.0)
    assert found == ScalingSteps(1, cordon=("a",), mark=("a",), removed=("a",))


def test_the_number_falls_once_for_several_workers() -> None:
    workers = [drained("a"), drained("b"), drained("c")]
    settling = {"a": ago(9, marked=5), "b": ago(9, marked=1)}
    assert steps(decided(3, 1), workers, settling).removed == ()
    assert steps(decided(3, 1), workers, settling | {"b": ago(9, marked=2)}).removed == ("a", "b")


def test_the_number_does_not_wait_for_workers_that_still_drain() -> None:
    workers = [drained("a"), drained("b"), cordoned("c")]
    found = steps(decided(3, 0), workers, {"a": ago(9, marked=5), "b": ago(9, marked=1), "c": ago(9)})
    assert (found.replicas, found.removed) == (2, ("a",))


@pytest.mark.parametrize(
    ("desired", "uncordoned"), [(3, ("late", "early")), (4, ("late", "early")), (2, ("late",)), (1, ())]
)
def test_demand_that_returns_calls_the_last_ones_off_first(desired: int, uncordoned: tuple[str, ...]) -> None:
    workers = [drained("early"), cordoned("late"), busy("c")]
    found = steps(decided(3, desired), workers, {"early": ago(20, marked=1), "late": ago(10)})
    assert (found.uncordon, found.replicas) == (uncordoned, max(3, desired))
    assert found.unmark == (("early",) if "early" in uncordoned else ())


def test_a_worker_that_vanished_is_forgotten() -> None:
    assert steps(decided(2, 1), [busy("b"), busy("c")], {"a": ago(10, marked=5)}).draining == {}


def test_replicas_that_do_not_exist_are_dropped_first() -> None:
    assert steps(decided(3, 1), [idle("a")], absent=2) == ScalingSteps(1)
    found = steps(decided(3, 0), [idle("a"), idle("b")], absent=1)
    assert (found.replicas, found.cordon) == (2, ("a", "b"))


def test_cordons_and_marks_of_a_killed_loop_are_lifted() -> None:
    workers = [drained("a"), replace(unborn("b"), marked=True), busy("c")]
    found = steps(decided(3, 3), workers)
    assert (found.uncordon, found.unmark) == (("a",), ("b",))
    too_many = steps(decided(2, 2), workers)
    assert (too_many.uncordon, too_many.unmark) == ((), ()), "one of them is on its way out"


def test_the_platform_chooses_with_the_default_victim_policy() -> None:
    default = AutoscalerSpec.model_validate({"scaleDown": {"victimPolicy": "DeploymentDefault"}})
    assert steps(decided(3, 1), [busy("a"), busy("b"), busy("c")], spec=default) == ScalingSteps(1)


def test_without_a_reading_the_number_falls_at_once() -> None:
    kept = {"a": ago(10)}
    assert steps(decided(3, 0, reason="Suspended"), None, kept) == ScalingSteps(0, draining=kept)


def test_a_recommendation_changes_nothing_and_ends_a_drain() -> None:
    more = replace(decided(3, 9), advice=True)
    assert steps(more, [busy("a")]) == ScalingSteps(3)
    assert steps(more, None) == ScalingSteps(3)
    fewer = replace(decided(2, 1), advice=True)
    found = steps(fewer, [drained("a"), busy("b")], {"a": ago(10, marked=9)})
    assert found == ScalingSteps(2, uncordon=("a",), unmark=("a",))


def test_a_cordon_outlives_the_drain() -> None:
    assert cordon_seconds(SPEC) == 660


@given(
    kinds=st.lists(st.sampled_from([idle, busy, cordoned, drained, unborn]), max_size=6),
    desired=st.integers(0, 8),
    marks=st.lists(st.none() | st.floats(0, 5), max_size=6),
    settle=st.sampled_from([0.0, 2.0]),
)
def test_no_busy_worker_is_removed_and_no_more_than_are_too_many(
    kinds: list[Any], desired: int, marks: list[float | None], settle: float
) -> None:
    workers = [kind(f"w{index}") for index, kind in enumerate(kinds)]
    draining = {f"w{index}": ago(9, marked=mark) for index, mark in enumerate(marks)}
    # A mark is given to a drained worker only, and a worker with a cordon claims nothing more.
    draining = {worker.name: draining[worker.name] for worker in workers if worker.name in draining and not worker.busy}
    found = next_steps(decided(len(workers), desired), workers, draining, SPEC, NOW, settle_seconds=settle)
    if desired < len(workers):
        assert desired <= found.replicas == len(workers) - len(found.removed)
    else:
        assert (found.replicas, found.removed) == (desired, ())
    assert not {worker.name for worker in workers if worker.busy} & set(found.removed)
    assert not set(found.uncordon) & set(found.draining)
    assert not set(found.removed) & set(found.draining)


def not_ready(worker: WorkerSample) -> WorkerSample:
    return replace(worker, ready=False)


def test_nothing_is_removed_while_a_busy_worker_is_not_ready() -> None:
    # Kubernetes would remove it first, whatever is marked.
    entries = {"b": ago(10, marked=5)}
    held = steps(decided(2, 1), [not_ready(busy("a")), drained("b")], entries)
    assert (held.replicas, held.removed, held.waits_for) == (2, (), ("a",))
    assert held.draining == entries
    assert steps(decided(2, 1), [busy("a"), drained("b")], entries).removed == ("b",)


def test_an_idle_worker_takes_the_place_of_a_victim_that_turns_out_busy() -> None:
    found = steps(decided(3, 2), [busy("a"), cordoned("b"), idle("c")], {"b": ago(1)})
    assert (found.uncordon, found.cordon, found.draining.keys()) == (("b",), ("c",), {"c"})
    alone = steps(decided(3, 2), [busy("a"), cordoned("b"), busy("c")], {"b": ago(1)})
    assert (alone.uncordon, alone.cordon) == ((), ()), "no other is better"


def test_an_idle_worker_that_is_not_ready_goes_first() -> None:
    assert steps(decided(3, 2), [idle("a", 50), not_ready(idle("b", 1)), idle("c", 60)]).cordon == ("b",)


def test_a_worker_that_started_after_it_was_marked_is_not_removed() -> None:
    entries = {"b": ago(10, marked=5)}
    assert steps(decided(2, 1), [idle("a"), unborn("b")], entries).removed == ("b",)
    assert steps(decided(2, 1), [idle("a"), cordoned("b")], entries).removed == ()


def test_during_a_rollout_all_are_removed_together_or_none() -> None:
    entries = {name: ago(10, marked=5) for name in "ab"}
    part = steps(decided(2, 0), [drained("a"), drained("b"), idle("c")], entries, together=True)
    assert (part.replicas, part.removed, part.cordon) == (2, (), ("c",))
    assert steps(decided(2, 0), [drained("a"), drained("b")], entries, together=True).replicas == 0
    surge = {**entries, "c": ago(10, marked=5)}
    more = steps(decided(2, 0), [drained("a"), drained("b"), unborn("c")], surge, together=True)
    assert (more.replicas, more.uncordon) == (0, ())


def test_a_held_decision_removes_none_or_all() -> None:
    assert decided(5, 3).held("RolloutUnderWay", "why").desired == 5
    assert decided(5, 3).held("RolloutUnderWay", "why").limited_by == "RolloutUnderWay"
    assert decided(5, 0).held("RolloutUnderWay", "why").desired == 0
    assert decided(5, 7).held("RolloutUnderWay", "why").desired == 7
