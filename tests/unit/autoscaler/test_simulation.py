"""The closed loop: the replicas of one decision work off the backlog that the next one sees."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_operator.autoscaler import FleetSample
from tests.unit.autoscaler.builders import STEADY, spec
from tests.unit.autoscaler.simulation import Fleet, reversals

ROOM = {"maxReplicas": 500, "maxPendingReplicas": 500}


def steady_replicas(rate: float, service: float, slots: int = 8, utilisation: float = 0.8) -> int:
    return math.ceil(rate * service / utilisation / slots - 1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(5, 200), st.floats(0.1, 2.0), st.sampled_from([1.0, 5.0, 15.0, 40.0]))
def test_a_step_settles_without_swinging(rate: float, service: float, latency: float) -> None:
    fleet = Fleet(spec(**ROOM), service, latency)
    counts = fleet.run(lambda _: rate, 900)
    assert reversals(counts) <= 2
    assert abs(counts[-1] - steady_replicas(rate, service)) <= max(1, 0.11 * counts[-1])
    assert fleet.backlog <= rate * 5


@pytest.mark.parametrize("latency", [2.0, 15.0])
def test_a_ramp_is_followed_without_a_growing_backlog(latency: float) -> None:
    fleet = Fleet(spec(**ROOM), 0.5, latency)
    counts = fleet.run(lambda now: min(200.0, now / 3), 1200)
    assert reversals(counts) <= 2
    assert fleet.backlog <= 200 * 5
    assert abs(counts[-1] - steady_replicas(200, 0.5)) <= 2


def test_work_that_goes_on_and_off_holds_the_fleet_between_the_bursts() -> None:
    fleet = Fleet(spec(**ROOM), 0.5, 5.0)
    counts = fleet.run(lambda now: 100.0 if now % 60 < 20 else 0.0, 1200)
    assert reversals(counts[len(counts) // 4 :]) <= 2
    assert min(counts[len(counts) // 4 :]) >= 1


def test_a_burst_goes_up_once_and_down_once_to_zero() -> None:
    fleet = Fleet(spec(), 0.5, 5.0)
    counts = fleet.run(lambda now: 20_000.0 if 30 <= now < 30.5 else 0.0, 1200)
    assert reversals(counts) == 1
    assert counts[-1] == 0
    assert fleet.finished == pytest.approx(10_000)


def test_after_the_work_zero_comes_with_the_cooldown_and_not_before() -> None:
    fleet = Fleet(spec(cooldownSeconds=60), 0.5, 2.0)
    counts = fleet.run(lambda now: 50.0 if now < 120 else 0.0, 600)
    zero = 5 * next(index for index, count in enumerate(counts) if index > 1 and count == 0)
    assert 120 + 60 - 5 <= zero <= 120 + 60 + 5


class Ignorant(Fleet):
    """A simulation whose decision assumes that replicas start at once."""

    def _sample(self, now: float) -> FleetSample:
        return replace(super()._sample(now), start_latency_seconds=0.0)


def test_a_drain_time_shorter_than_e_times_the_start_would_overshoot() -> None:
    rule = spec(
        **ROOM,
        target={"drainSeconds": 10, "backlogPerReplica": 1000},
        panic={"mode": "Disabled"},
        behavior=STEADY,
    )
    aware, ignorant = Fleet(rule, 0.5, 40.0), Ignorant(rule, 0.5, 40.0)
    most_aware = max(aware.run(lambda _: 100.0, 900))
    most_ignorant = max(ignorant.run(lambda _: 100.0, 900))
    assert most_ignorant > 1.5 * most_aware


@pytest.mark.parametrize("latency", [2.0, 15.0, 40.0])
def test_a_day_turns_the_fleet_twice(latency: float) -> None:
    period, days = 1800, 2
    fleet = Fleet(spec(**ROOM), 0.5, latency)
    counts = fleet.run(lambda now: 60 * (1 + math.sin(2 * math.pi * now / period)), period * days)
    assert reversals(counts[period // 10 :]) <= 2 * days  # the load is there at once at first
    assert max(decision.terms["oldest_age_seconds"] for decision in fleet.decisions[60:]) < 60


@pytest.mark.parametrize("rate", [1.0, 40.0, 200.0])
def test_chance_alone_moves_nothing(rate: float) -> None:
    chance = random.Random(1)
    gap = [chance.expovariate(rate)]

    def arrivals(now: float) -> float:
        count = 0
        while gap[0] <= now + 0.5:
            gap[0] += chance.expovariate(rate)
            count += 1
        return count / 0.5

    counts = Fleet(spec(**ROOM), 0.5, 5.0).run(arrivals, 3600)[120:]
    assert reversals(counts) == 0
    assert abs(counts[-1] - steady_replicas(rate, 0.5)) <= 1
