"""Every field of a decision moves the number: one look, decided with two values of one field, gives two results."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import pytest

from taskfleet_operator.autoscaler import FleetSample, ScalingState, decide
from taskfleet_operator.autoscaler.history import Point, QueueHistory, Recommendation
from taskfleet_operator.autoscaler.queue_terms import horizons
from tests.unit.autoscaler.builders import NOW, STEADY, fresh, queue, sample, spec

CALM: dict[str, Any] = {"behavior": STEADY, "panic": {"mode": "Disabled"}}
THRESHOLD: dict[str, Any] = {"policy": "Threshold", "behavior": STEADY}
NEW = {"runnable_total": 0, "attempts_total": 0, "busy_ms_total": 0}


class Scene(NamedTuple):
    """A look in a state; a field by its path, two of its values, the default first, and the numbers that they give."""

    field: str
    values: tuple[Any, Any]
    desired: tuple[int, int]
    seen: FleetSample
    state: ScalingState
    others: dict[str, Any] = CALM


def learnt(current: int, per_second: float = 0.0) -> ScalingState:
    """A state after a minute of arrivals at one rate, of tasks of half a second each."""
    counts = [(age, 1000 + int((60 - age) * per_second)) for age in range(60, 0, -2)]
    return state_of(current, [Point(NOW - age, count, count, count * 0.5, 0.5) for age, count in counts])


def rushed(current: int) -> ScalingState:
    """A state after 150 arrivals a second in the last six seconds, of which none has ended, and none before."""
    counts = [(age, 1000 + max(0, 6 - age) * 150) for age in range(60, 0, -2)]
    return state_of(current, [Point(NOW - age, count, 1000, 500.0, 0.5) for age, count in counts])


def state_of(current: int, points: list[Point]) -> ScalingState:
    return replace(fresh(current), queues=(QueueHistory("default", tuple(points)),))


def steady(current: int, per_second: float, *, backlog: int = 0, running: int = 0) -> tuple[FleetSample, ScalingState]:
    """The look after such a minute, and its state."""
    count = 1000 + int(60 * per_second)
    figures = queue(
        backlog, in_flight=running, runnable_total=count, attempts_total=count, busy_ms_total=int(count * 500)
    )
    return sample(figures, current=current, busy_workers=min(running, current)), learnt(current, per_second)


WAITING = (sample(queue(12_000), current=1), learnt(1))
RUSH = (sample(queue(868, in_flight=32, runnable_total=1900), current=4, busy_workers=4), rushed(4))
UP, DOWN = replace(fresh(2), signals=1), replace(fresh(4), signals=-1)
FAILED = sample(current=3, failure="Redis does not answer")
STATIC = CALM | {"fallback": {"behavior": "Static"}}
RISEN = replace(fresh(1), recommendations=(Recommendation(NOW - 30, 1), Recommendation(NOW - 10, 13)))
SCENES = [
    Scene("policy", ("DrainTime", "Threshold"), (13, 1), *WAITING),
    Scene("target.drainSeconds", (60, 120), (13, 7), *WAITING),
    Scene("target.utilizationPercent", (80, 50), (4, 5), *steady(1, 40)),
    Scene("target.backlogPerReplica", (100, 50), (10, 19), sample(queue(950, **NEW)), fresh(0)),
    Scene("target.processingTimeSeconds", ("0.5", "60"), (1, 3), sample(queue(20, **NEW)), fresh(0)),
    Scene("activation.backlog", (0, 5), (1, 0), sample(queue(5)), fresh(0)),
    Scene("minReplicas", (0, 3), (0, 3), sample(), fresh(0)),
    Scene("maxReplicas", (50, 4), (13, 4), *WAITING),
    Scene("cooldownSeconds", (300, 30), (1, 0), sample(current=1), fresh(1, last_active=NOW - 100)),
    Scene("maxPendingReplicas", (25, 5), (13, 6), *WAITING),
    Scene("panic.mode", ("Enabled", "Disabled"), (8, 4), *RUSH, {"behavior": STEADY}),
    Scene("panic.thresholdPercent", (200, 1000), (8, 4), *RUSH, {"behavior": STEADY}),
    Scene("panic.windowSeconds", (6, 60), (8, 4), *RUSH, {"behavior": STEADY}),
    Scene("threshold.scaleUpThreshold", ("5.0", "50"), (4, 2), sample(queue(40), current=2), UP, THRESHOLD),
    Scene("threshold.scaleUpCount", (2, 7), (4, 9), sample(queue(40), current=2), UP, THRESHOLD),
    Scene("threshold.consecutiveSignals", (2, 3), (4, 2), sample(queue(40), current=2), UP, THRESHOLD),
    Scene("threshold.scaleDownThreshold", ("1.0", "0.1"), (3, 4), sample(queue(2), current=4), DOWN, THRESHOLD),
    Scene("threshold.scaleDownCount", (1, 2), (3, 2), sample(queue(2), current=4), DOWN, THRESHOLD),
    Scene("fallback.failureThreshold", (3, 2), (3, 2), FAILED, replace(fresh(3), failures=1), STATIC),
    Scene("fallback.behavior", ("CurrentReplicas", "Static"), (3, 2), FAILED, replace(fresh(3), failures=2)),
    Scene("fallback.replicas", (2, 9), (2, 9), FAILED, replace(fresh(3), failures=2), STATIC),
    Scene("behavior.scaleUp.tolerance", ("0.1", "2"), (4, 2), *steady(2, 48, backlog=20)),
    Scene("behavior.scaleDown.tolerance", ("0.1", "0.9"), (3, 6), *steady(6, 40, running=20)),
    Scene(
        "behavior.scaleUp.stabilizationWindowSeconds",
        (0, 60),
        (13, 1),
        WAITING[0],
        replace(WAITING[1], recommendations=RISEN.recommendations),
    ),
    Scene(
        "behavior.scaleDown.stabilizationWindowSeconds",
        (120, 0),
        (6, 3),
        steady(6, 40, running=20)[0],
        replace(steady(6, 40)[1], recommendations=(Recommendation(NOW - 30, 6),)),
        {"panic": {"mode": "Disabled"}},
    ),
    Scene("behavior.scaleUp.selectPolicy", ("Max", "Disabled"), (13, 1), *WAITING),
    Scene("behavior.scaleDown.selectPolicy", ("Max", "Disabled"), (3, 6), *steady(6, 40, running=20)),
]


def with_field(others: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the fields with one more."""
    name, _, rest = path.partition(".")
    return others | {name: with_field(others.get(name, {}), rest, value) if rest else value}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.field)
def test_the_number_follows_the_field(scene: Scene) -> None:
    decided = [
        decide(scene.seen, scene.state, spec(**with_field(scene.others, scene.field, value)), NOW)
        for value in scene.values
    ]
    assert tuple(one.desired for one in decided) == scene.desired, [one.message for one in decided]
    default = reduce(lambda at, name: at[name], scene.field.split("."), spec().model_dump(by_alias=True, mode="json"))
    if scene.field not in ("behavior.scaleDown.stabilizationWindowSeconds",) and "policies" not in scene.field:
        assert scene.values[0] == default, "the first value is the default"


@pytest.mark.parametrize(("horizon", "drain"), [(30, 30.0), (120, 120.0), (0, 10.0)])
def test_the_horizon_of_prewarming_is_at_least_the_start(horizon: int, drain: float) -> None:
    assert horizons(5.0, spec(prewarm={"horizonSeconds": horizon})) == (10.0, drain)


def test_what_runs_keeps_its_slots_while_there_is_no_history() -> None:
    new = queue(950, in_flight=16, **NEW)
    decision = decide(sample(new, current=2, busy_workers=2), fresh(2), spec(**CALM), NOW)
    assert decision.desired == 12
    assert decision.message == "no history yet: 16 running / 8 + 950 waiting / 100 per replica → 12"


def test_tasks_that_wait_for_their_key_ask_for_nothing() -> None:
    """2000 tasks of one key, of which two may run at a time: they are parked, and no replica would run them sooner."""
    key = {"concurrency_per_key": 2, "parked": 2000}
    seen = sample(queue(0, in_flight=2, **key), current=1, busy_workers=1)
    assert decide(seen, learnt(1), spec(**CALM), NOW).desired == 1
    assert decide(replace(seen, queues=(queue(2000, in_flight=2),)), learnt(1), spec(**CALM), NOW).desired == 3


def test_a_high_rate_alone_is_no_panic_while_slots_are_free_and_nothing_waits() -> None:
    seen, state = RUSH
    idle = replace(seen, queues=(replace(seen.queues[0], backlog=0, in_flight=4),))
    decision = decide(idle, state, spec(behavior=STEADY), NOW)
    assert not decision.panicking
    assert decide(seen, state, spec(behavior=STEADY), NOW).panicking
    assert decision.queues[0].panic_arrivals_per_second == pytest.approx(150, rel=0.1)
    assert decision.queues[0].arrivals_per_second == pytest.approx(15, rel=0.1)


def test_of_several_limits_the_one_of_a_later_step_counts() -> None:
    """Rates come before the pending limit, that one before the busy floor, and the limits of the resource are last."""
    slow = {"scaleUp": {"policies": [{"type": "Pods", "value": 8, "periodSeconds": 15}]}}
    rates = spec(behavior=slow, panic={"mode": "Disabled"}, maxPendingReplicas=5)
    pending = decide(*WAITING, rates, NOW)
    assert (pending.desired, pending.limited_by) == (6, "MaxPendingReplicas")
    last = decide(*WAITING, rates.model_copy(update={"max_replicas": 3}), NOW)
    assert (last.desired, last.limited_by) == (3, "TooManyReplicas")
