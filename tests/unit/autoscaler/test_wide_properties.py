"""Properties over run times from 10 ms to an hour, slots, limits, and samples that cannot be."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_operator.autoscaler import FleetSample, QueueSample, ScalingDecision, ScalingState, decide
from taskfleet_operator.autoscaler.history import Point, QueueHistory, Recommendation, ScaleEvent
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from tests.unit.autoscaler.builders import NOW, STEADY, first, fresh, queue, sample, spec

FEW = settings(max_examples=60)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of every size between two positive ones."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


limits = st.fixed_dictionaries(
    {
        "concurrency": st.none() | st.integers(1, 500),
        "rate_per_second": st.none() | between(0.01, 10_000),
        "concurrency_per_key": st.none() | st.integers(1, 20),
        "rate_per_second_per_key": st.none() | between(0.01, 100),
        "target_latency_seconds": st.none() | between(1, 3600),
    }
)


@st.composite
def loads(draw: st.DrawFn) -> tuple[FleetSample, ScalingState, AutoscalerSpec]:
    """A fleet after a minute of tasks of one length at one rate."""
    seconds, rate = draw(between(0.01, 3600)), draw(between(0.001, 2000))
    slots, registered = draw(st.integers(1, 64)), draw(st.integers(0, 60))
    current = registered + draw(st.integers(0, 10))
    running = draw(st.integers(0, registered * slots))
    done = draw(st.sampled_from([0, 4, 1000, 1_000_000]))
    longest = draw(st.sampled_from([seconds, 10 * seconds]))
    points = tuple(
        Point(
            NOW - age,
            int((60 - age) * rate),
            done,
            done * seconds,
            seconds,
            longest_seconds=longest,
            oldest_run_seconds=seconds / 2,
        )
        for age in range(60, 0, -5)
    )
    ended = draw(st.integers(0, 500))
    one = QueueSample(
        name="default",
        backlog=draw(st.integers(0, 100_000)),
        in_flight=running,
        due=draw(st.sampled_from([0, 0, 7, 10_000])),
        oldest_age_seconds=draw(between(0.01, 4000)),
        runnable_total=int(60 * rate) + draw(st.integers(0, 5000)),
        attempts_total=done + ended,
        busy_ms_total=int(1000 * seconds * (done + ended)) + 1,
        parked=draw(st.sampled_from([0, 0, 50])),
        **draw(limits),
    )
    seen = FleetSample(
        queues=(one,),
        workers_registered=registered,
        busy_workers=min(registered, running),
        current_replicas=current,
        ready_replicas=registered,
        pending_replicas=current - registered,
        slots_per_replica=slots,
        oldest_run_seconds=draw(st.sampled_from([0.0, seconds / 2, seconds])),
        start_latency_seconds=draw(st.none() | between(0.5, 120)),
    )
    rule = spec(
        maxReplicas=draw(st.integers(1, 300)),
        target={"utilizationPercent": draw(st.integers(20, 100)), "processingTimeSeconds": "0.5"},
        panic={"mode": draw(st.sampled_from(["Enabled", "Disabled"]))},
        behavior=draw(st.sampled_from([STEADY, {}])),
    )
    return seen, replace(fresh(current), queues=(QueueHistory("default", points),)), rule


@FEW
@given(loads())
def test_there_are_never_more_slots_than_tasks_or_limits_allow(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec],
) -> None:
    seen, state, rule = load
    (one,), (terms,) = seen.queues, decide(seen, state, rule, NOW).queues
    u = rule.target.utilization_percent / 100
    start = (10.0 if seen.start_latency_seconds is None else seen.start_latency_seconds) + 5
    there = one.backlog + one.in_flight + one.due + terms.arrivals_per_second * start / u
    assert terms.slots <= there * (1 + 1e-9) + 1e-9
    if one.concurrency is not None:
        assert terms.slots <= one.concurrency
    if one.rate_per_second is not None:
        assert terms.slots <= one.rate_per_second * terms.service_seconds / u * (1 + 1e-9)


@FEW
@given(loads(), st.integers(1, 100_000))
def test_more_backlog_never_means_fewer_replicas(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec], more: int
) -> None:
    seen, state, rule = load
    fuller = replace(seen, queues=(replace(seen.queues[0], backlog=seen.queues[0].backlog + more),))
    assert decide(fuller, state, rule, NOW).desired >= decide(seen, state, rule, NOW).desired


@FEW
@given(loads(), st.integers(0, 119), st.integers(0, 20))
def test_nothing_shrinks_below_what_was_wanted_within_the_down_window(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec], age: int, above: int
) -> None:
    seen, state, rule = load
    current = seen.current_replicas
    rule = rule.model_copy(update={"behavior": AutoscalerSpec().behavior})
    state = replace(state, recommendations=(Recommendation(NOW - age, current + above),))
    assert decide(seen, state, rule, NOW).desired >= min(current, rule.max_replicas)


@FEW
@given(loads())
def test_the_run_time_is_never_longer_than_a_run_that_can_have_been_seen(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec],
) -> None:
    seen, state, rule = load
    point = decide(seen, state, rule, NOW).state.points("default")[-1]
    assert point.service_seconds <= point.longest_seconds


@FEW
@given(loads())
def test_a_state_that_was_written_and_read_decides_the_same(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec],
) -> None:
    seen, state, rule = load
    kept = decide(seen, state, rule, NOW).state
    assert decide(seen, read(written(kept)), rule, NOW + 5) == decide(seen, kept, rule, NOW + 5)


def written(state: ScalingState) -> str:
    return json.dumps(dataclasses.asdict(state))


def read(text: str) -> ScalingState:
    fields: dict[str, Any] = json.loads(text)
    histories = [
        QueueHistory(one["name"], tuple(Point(**point) for point in one["points"])) for one in fields.pop("queues")
    ]
    recommendations = tuple(Recommendation(**one) for one in fields.pop("recommendations"))
    events = tuple(ScaleEvent(**one) for one in fields.pop("events"))
    return ScalingState(**fields, queues=tuple(histories), recommendations=recommendations, events=events)


ODD = [5e-324, 2.5, math.nan, math.inf, -math.inf, -1, -1e9, 1e308, 2**63, 10**400, None, "7", 2**53]
QUEUE_FIELDS = [field.name for field in dataclasses.fields(QueueSample) if field.name != "name"]
FLEET_FIELDS = [
    "workers_registered", "busy_workers", "current_replicas", "ready_replicas", "pending_replicas",
    "slots_per_replica", "oldest_run_seconds", "start_latency_seconds",
]  # fmt: skip


@FEW
@given(
    loads(),
    st.dictionaries(st.sampled_from(QUEUE_FIELDS), st.sampled_from(ODD), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(FLEET_FIELDS), st.sampled_from(ODD), max_size=2),
    st.sampled_from(["DrainTime", "Threshold"]),
)
def test_a_figure_that_cannot_be_never_raises(
    load: tuple[FleetSample, ScalingState, AutoscalerSpec], odd: dict[str, Any], fleet: dict[str, Any], policy: str
) -> None:
    seen, state, rule = load
    rule = rule.model_copy(update={"policy": policy})
    broken = replace(seen, queues=(replace(seen.queues[0], **odd),), **fleet)
    decision = decide(broken, state, rule, NOW)
    for step in range(3):
        assert rule.min_replicas <= decision.desired <= rule.max_replicas
        assert isinstance(decision.desired, int)
        assert all(math.isfinite(value) for value in decision.terms.values())
        decision = decide(broken, decision.state, rule, NOW + 5 * step)
    assert decide(seen, decision.state, rule, NOW + 20).reason


@pytest.mark.parametrize("odd", [math.nan, math.inf, -5])
@pytest.mark.parametrize("name", ["backlog", "attempts_total", "busy_ms_total", "oldest_age_seconds"])
def test_such_a_sample_is_held_once_and_then_read_without_the_figure(name: str, odd: float) -> None:
    rule = spec(behavior={"scaleUp": STEADY["scaleUp"]}, panic={"mode": "Disabled"})
    broken = sample(replace(queue(5000, oldest_age_seconds=1.0), **{name: odd}), current=2)
    held = first(broken, rule)
    assert (held.desired, held.reason) == (2, "SuspectSample")
    assert held.message == f"{name} of default is no count and no time; holding 2"
    later = decide(broken, held.state, rule, NOW + 5)
    assert later.reason != "SuspectSample"
    assert later.desired >= 2, "nothing is taken away within a down window"


@pytest.mark.parametrize(("current", "held"), [(1, 3), (5, 5), (30, 8)])
def test_a_suspect_sample_is_held_within_the_limits(current: int, held: int) -> None:
    state = replace(fresh(current), queues=(QueueHistory("default", (Point(NOW - 5, 9999, 9999, 0.0, 0.5),)),))
    decision = decide(sample(queue(100), current=current), state, spec(minReplicas=3, maxReplicas=8), NOW)
    assert (decision.desired, decision.reason) == (held, "SuspectSample")


class TestClock:
    def grown(self, now: float, state: ScalingState) -> ScalingDecision:
        return decide(sample(queue(96_000), current=4), state, spec(maxReplicas=200, maxPendingReplicas=200), now)

    def test_an_hour_s_step_back_does_not_stop_growth(self) -> None:
        before = self.grown(NOW, fresh(4)).state
        assert self.grown(NOW - 3600, before).desired == 14

    def test_what_lies_in_the_future_is_dropped(self) -> None:
        ahead = replace(
            fresh(4),
            started=NOW + 9999,
            last_active=NOW + 9999,
            panic_until=NOW + 9999,
            hold_until=NOW + 9999,
            events=(ScaleEvent(NOW + 9999, 40),),
            recommendations=(Recommendation(NOW + 9999, 200),),
            queues=(QueueHistory("default", (Point(NOW + 9999, 10**9, 10**9, 10.0**9, 3.0),)),),
        )
        decision = self.grown(NOW, ahead)
        assert (decision.desired, decision.reason, decision.limited_by) == (14, "DrainTime", "ScaleUpLimit")
        kept = decision.state
        times = [kept.started, kept.last_active, *(entry.at for entry in (*kept.recommendations, *kept.events))]
        assert max(times) <= NOW


def test_a_hand_scale_after_a_start_is_not_held_as_if_it_had_restarted() -> None:
    rule = spec(panic={"mode": "Disabled"}, behavior=STEADY)
    state = decide(sample(queue(960), current=2), ScalingState.initial(2, NOW), rule, NOW).state
    by_hand = decide(sample(queue(960), current=10), state, rule, NOW + 5)
    assert (by_hand.desired, by_hand.limited_by) == (2, "JustStarted")
    assert decide(sample(queue(960), current=10), by_hand.state, rule, NOW + 62).limited_by == ""
