"""The closed loop: the replicas of one decision work off the backlog that the next one sees."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_operator.autoscaler import FleetSample
from taskfleet_operator.simulate import load
from taskfleet_operator.simulate.autoscalers import OurAutoscaler
from taskfleet_operator.simulate.load import Load, RunTime
from taskfleet_operator.simulate.simulated_fleet import SimulatedFleet
from taskfleet_operator.simulate.simulation import Measured, SimulatedWorld, simulate
from tests.unit.autoscaler.builders import STEADY, spec

HALF = RunTime(0.5)
ROOM = {"maxReplicas": 500, "maxPendingReplicas": 500}


class Ignorant(OurAutoscaler):
    """Believes that replicas start at once."""

    def _sample(self, fleet: SimulatedFleet, now: float) -> FleetSample:
        return replace(super()._sample(fleet, now), start_latency_seconds=0.0)


def ours(
    made: Load, seconds: float, start: float, *, kind: type[OurAutoscaler] = OurAutoscaler, **fields: object
) -> Measured:
    world = SimulatedWorld(made.name, (made,), seconds, 8, start, steady_from=seconds / 4)
    return simulate(world, kind(made.name, spec(**{**ROOM, **fields}), world.loads, world.faults))


def rate_of(per_second: float, *, on: float = math.inf, every: float = math.inf) -> Load:
    return Load("on", lambda now: per_second if now % every < on else 0.0, HALF)


def is_enough(replicas: int, slots_busy: float, utilisation: float = 0.8) -> bool:
    """Within a tenth, and a replica, of what the load wants."""
    exact = slots_busy / utilisation / 8
    return exact / 1.11 - 1 <= replicas <= exact * 1.11 + 1


@settings(max_examples=10)
@given(st.floats(5, 200), st.floats(0.1, 2.0), st.sampled_from([1.0, 5.0, 15.0, 40.0]))
def test_a_step_settles_without_swinging(rate: float, service: float, start: float) -> None:
    found = ours(load.step(rate * service, RunTime(service), at=0.0), 900, start)
    assert found.reversals <= 2
    assert is_enough(found.curve[-1].replicas, rate * service)
    assert found.curve[-1].backlog <= rate * 5


@pytest.mark.parametrize("slots", [1, 8, 64])
@pytest.mark.parametrize("start", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("drain", [10, 30, 60])
@pytest.mark.parametrize(("tasks", "service"), [(300, 0.5), (300, 3.0), (2000, 0.5), (10_000, 0.1)])
def test_a_burst_turns_at_most_twice_though_nothing_is_held_back(
    tasks: int, service: float, drain: int, start: float, slots: int
) -> None:
    made = load.bursts(tasks, RunTime(service), every=10_000.0)
    world = SimulatedWorld(made.name, (made,), 600.0, slots, start)
    rule = spec(
        maxReplicas=5, cooldownSeconds=2, pollIntervalSeconds=1, target={"drainSeconds": drain}, behavior=STEADY
    )
    found = simulate(world, OurAutoscaler(made.name, rule, world.loads, world.faults))
    assert found.reversals <= 2


@pytest.mark.parametrize("start", [2.0, 15.0])
def test_a_ramp_is_followed_without_a_growing_backlog(start: float) -> None:
    found = ours(load.ramp(100.0, HALF, seconds=600.0), 1200, start)
    assert found.reversals <= 2
    assert found.curve[-1].backlog <= 200 * 5
    assert is_enough(found.curve[-1].replicas, 100.0)


def test_work_that_goes_on_and_off_holds_the_fleet_between_the_bursts() -> None:
    found = ours(rate_of(100.0, on=20.0, every=60.0), 1200, 5.0)
    assert found.steady_reversals is not None
    assert found.steady_reversals <= 2
    assert min(point.replicas for point in found.curve[90:]) >= 1
    assert found.wait_95 <= 15


def test_a_burst_goes_up_once_and_down_once_to_zero() -> None:
    found = ours(load.bursts(10_000, HALF, every=1e9), 1200, 5.0)
    assert found.reversals == 1
    assert (found.curve[-1].replicas, found.curve[-1].backlog) == (0, 0)


def test_after_the_work_zero_comes_with_the_cooldown_and_not_before() -> None:
    found = ours(rate_of(50.0, on=120.0), 360, 2.0, cooldownSeconds=60)
    zero = next(point.at for point in found.curve if point.at > 60 and not point.replicas)
    assert 120 + 60 - 5 <= zero <= 120 + 60 + 10


def test_a_drain_time_shorter_than_e_times_the_start_would_overshoot() -> None:
    rule = {
        "target": {"drainSeconds": 10, "processingTimeSeconds": "0.51"},
        "panic": {"mode": "Disabled"},
        "behavior": STEADY,
    }
    aware = ours(rate_of(100.0), 900, 40.0, **rule)
    assert ours(rate_of(100.0), 900, 40.0, kind=Ignorant, **rule).most_replicas > 1.5 * aware.most_replicas


@pytest.mark.parametrize("start", [2.0, 15.0, 40.0])
def test_a_day_turns_the_fleet_twice(start: float) -> None:
    found = ours(load.sine(30.0, HALF, period=1800.0), 3600, start)
    assert found.reversals <= 4
    assert found.wait_95 < 60


@pytest.mark.parametrize("rate", [1.0, 40.0, 200.0])
def test_chance_alone_moves_nothing(rate: float) -> None:
    found = ours(load.poisson(rate * 0.5, HALF), 3600, 5.0)
    assert found.steady_reversals == 0
    assert is_enough(found.curve[-1].replicas, rate * 0.5)
