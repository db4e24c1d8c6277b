"""The clock of decisions, and the ages of pods, while the wall clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from taskfleet_operator.control.pods.pod_ages import PodAges
from taskfleet_operator.scaling.clock import ScalingClock


class Clocks:
    """A monotonic and a wall clock, each to be set."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, 1_800_000_000.0
        self.clock = ScalingClock(lambda: self.monotonic, lambda: self.wall)

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


def made(at: float) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": datetime.fromtimestamp(at, UTC).isoformat()}}


def test_a_wall_clock_that_is_set_changes_neither_decisions_nor_their_order_in_status() -> None:
    clocks = Clocks()
    before = clocks.clock.wall(clocks.clock.now())
    clocks.pass_by(5)
    clocks.wall -= 3600
    assert clocks.clock.now() == 105
    assert clocks.clock.wall(clocks.clock.now()) - before == 5


def test_a_time_that_lies_in_the_future_is_dropped() -> None:
    clocks = Clocks()
    assert clocks.clock.past(clocks.wall - 30) == 70
    assert clocks.clock.past(clocks.wall + 1) is None
    assert clocks.clock.past(clocks.wall + 1, ahead=60) == 101
    assert clocks.clock.past(clocks.wall + 61, ahead=60) is None
    assert clocks.clock.past(None) is None


def test_a_wall_clock_that_is_set_changes_no_age() -> None:
    clocks = Clocks()
    ages = PodAges(clocks.clock, lambda: clocks.wall)
    assert ages.of({"a": made(clocks.wall - 500)}) == {"a": 500}, "before this process had started"
    clocks.pass_by(10)
    clocks.wall += 3600
    seen = ages.of({"a": made(clocks.wall - 4110), "b": made(clocks.wall - 3600)})
    assert seen == {"a": 510, "b": 60}, "a new pod is not an hour old, whatever the clocks say"
    clocks.wall -= 7200
    clocks.pass_by(1)
    assert ages.of({"b": made(0)}) == {"b": 61}
    assert ages.of({"c": made(clocks.wall + 3600)}) == {"c": 0}
