"""Properties of the decision for every sample, state and spec."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from taskfleet_operator.autoscaler import FleetSample, QueueSample, ScalingState, decide
from taskfleet_operator.autoscaler.history import Point, QueueHistory, Recommendation, ScaleEvent
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from tests.unit.autoscaler.builders import NOW, queue, spec

counts = st.integers(0, 60)
ages = st.floats(0, 700, allow_nan=False)


@st.composite
def specs(draw: st.DrawFn) -> AutoscalerSpec:
    low, high = sorted((draw(st.integers(0, 40)), draw(st.integers(1, 40))))
    policy = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Percent", "Pods"]),
            "value": st.integers(1, 200),
            "periodSeconds": st.integers(1, 90),
        }
    )
    select = st.sampled_from(["Max", "Min", "Disabled"])

    def rules() -> dict[str, object]:
        return {
            "stabilizationWindowSeconds": draw(st.integers(0, 300)),
            "selectPolicy": draw(select),
            "policies": draw(st.lists(policy, min_size=1, max_size=3)),
        }

    return spec(
        policy=draw(st.sampled_from(["DrainTime", "Threshold"])),
        minReplicas=low,
        maxReplicas=max(high, 1),
        cooldownSeconds=draw(st.integers(0, 600)),
        maxPendingReplicas=draw(st.integers(1, 50)),
        activation={"backlog": draw(st.integers(0, 20))},
        panic={"mode": draw(st.sampled_from(["Enabled", "Disabled"]))},
        behavior={"scaleUp": rules(), "scaleDown": rules()},
    )


@st.composite
def states(draw: st.DrawFn, current: int) -> ScalingState:
    points = tuple(
        Point(NOW - 60 + index * 5, 1000 + sum(adds[: index + 1]), 900, 450.0, 0.5)
        for adds in [draw(st.lists(st.integers(0, 500), min_size=0, max_size=12))]
        for index in range(len(adds))
    )
    return ScalingState(
        started=NOW - draw(ages),
        last_active=NOW - draw(ages),
        last_current=draw(counts),
        last_desired=draw(counts),
        last_decided=NOW - 5,
        panic_until=NOW + draw(st.floats(-60, 60)),
        hold_until=NOW + draw(st.floats(-120, 60)),
        failures=draw(st.integers(0, 5)),
        signals=draw(st.integers(-4, 4)),
        queues=(QueueHistory("default", points),),
        recommendations=tuple(
            Recommendation(NOW - age, draw(counts)) for age in sorted(draw(st.lists(ages, max_size=5)), reverse=True)
        ),
        events=tuple(ScaleEvent(NOW - age, draw(st.integers(-9, 9))) for age in draw(st.lists(ages, max_size=4))),
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[FleetSample, ScalingState, AutoscalerSpec]:
    current = draw(counts)
    ready = draw(st.integers(0, current))
    registered = draw(st.integers(0, ready))
    seen = FleetSample(
        queues=(
            queue(
                draw(st.integers(0, 50_000)),
                in_flight=draw(st.integers(0, 200)),
                due=draw(st.integers(0, 100)),
                due_within_start=draw(st.integers(0, 3)),
                oldest_age_seconds=draw(st.floats(0, 120)),
                runnable_total=10_000,
                attempts_total=draw(st.sampled_from([900, 2000])),
            ),
        ),
        workers_registered=registered,
        busy_workers=draw(st.integers(0, registered)),
        current_replicas=current,
        ready_replicas=ready,
        pending_replicas=current - ready,
        slots_per_replica=draw(st.integers(1, 64)),
        start_latency_seconds=draw(st.none() | st.floats(0, 120)),
    )
    return seen, draw(states(current)), draw(specs())


def with_backlog(seen: FleetSample, backlog: int) -> FleetSample:
    return replace(seen, queues=(replace(seen.queues[0], backlog=backlog),))


@given(scenes())
def test_the_count_is_within_its_limits(scene: tuple[FleetSample, ScalingState, AutoscalerSpec]) -> None:
    seen, state, rule = scene
    desired = decide(seen, state, rule, NOW).desired
    assert rule.min_replicas <= desired <= rule.max_replicas


@given(scenes(), st.integers(0, 50_000))
def test_more_backlog_never_means_fewer_replicas(
    scene: tuple[FleetSample, ScalingState, AutoscalerSpec], more: int
) -> None:
    seen, state, rule = scene
    backlog = seen.queues[0].backlog
    fewer = decide(seen, state, rule, NOW).desired
    assert decide(with_backlog(seen, backlog + more), state, rule, NOW).desired >= fewer


@given(scenes())
def test_zero_only_when_idle_for_the_cooldown(scene: tuple[FleetSample, ScalingState, AutoscalerSpec]) -> None:
    seen, state, rule = scene
    decision = decide(seen, state, rule, NOW)
    if decision.desired == 0 and seen.current_replicas > 0:
        assert not (seen.backlog)
        assert not (seen.in_flight)
        assert not (seen.due_within_start)
        assert not (seen.busy_workers)
        assert NOW - decision.state.last_active >= rule.cooldown_seconds
        assert rule.min_replicas == 0


@given(scenes())
def test_workers_that_are_busy_are_never_too_many(scene: tuple[FleetSample, ScalingState, AutoscalerSpec]) -> None:
    seen, state, rule = scene
    desired = decide(seen, state, rule, NOW).desired
    needed = -(-max(seen.in_flight, seen.busy_workers) // seen.slots_per_replica)
    assert desired >= min(seen.busy_workers, needed, rule.max_replicas)


@given(scenes())
def test_without_a_sample_nothing_changes(scene: tuple[FleetSample, ScalingState, AutoscalerSpec]) -> None:
    seen, state, rule = scene
    failed = FleetSample.failed("refused", seen.current_replicas, seen.ready_replicas)
    assert decide(failed, replace(state, failures=0), rule, NOW).desired == seen.current_replicas


@given(scenes())
def test_a_decision_explains_itself(scene: tuple[FleetSample, ScalingState, AutoscalerSpec]) -> None:
    decision = decide(*scene, NOW)
    assert decision.reason.isalpha()
    assert decision.reason[0].isupper()
    assert decision.message
    assert "\n" not in decision.message


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_the_remembered_state_stays_small(arrivals: list[int]) -> None:
    rule, state, enqueued = spec(), ScalingState.initial(1, NOW), 0
    for step, arrived in enumerate(arrivals):
        enqueued += arrived
        seen = QueueSample(name="default", backlog=0, runnable_total=enqueued, attempts_total=enqueued)
        state = decide(
            FleetSample((seen,), 1, 0, current_replicas=1, ready_replicas=1), state, rule, NOW + step * 0.1
        ).state
    assert len(state.points("default")) <= 2 + 60 / 0.25
    assert len(state.recommendations) <= len(arrivals) + 1
