"""The start latency, learned from workers that register."""

from __future__ import annotations

import pytest

from taskfleet_operator.autoscaler import StartLatencies
from taskfleet_operator.autoscaler.start_latency import percentile


@pytest.mark.parametrize(
    ("seconds", "expected"), [([], None), ([3.0], 3.0), ([float(n) for n in range(1, 11)], 9.0), ([5.0, 1.0], 5.0)]
)
def test_the_percentile_is_a_value_that_was_seen(seconds: list[float], expected: float | None) -> None:
    assert percentile(seconds) == expected


def test_workers_of_the_first_look_tell_nothing() -> None:
    first = StartLatencies().with_look({"a": 500.0, "b": 2.0}, frozenset({"a"}))
    assert first.percentile_90 is None
    assert first.with_look({"a": 505.0, "b": 7.0}, frozenset({"a", "b"})).seconds == (7.0,)


def test_a_worker_counts_once_even_if_its_heartbeats_pause() -> None:
    seen = StartLatencies((), frozenset())
    for registered in ({"a"}, set[str](), {"a"}):
        seen = seen.with_look({"a": 9.0}, frozenset(registered))
    assert seen.seconds == (9.0,)


def test_the_last_twenty_count_and_gone_workers_are_forgotten() -> None:
    seen = StartLatencies((), frozenset())
    for number in range(30):
        seen = seen.with_look({f"w{number}": float(number)}, frozenset({f"w{number}"}))
    assert seen.seconds == tuple(float(number) for number in range(10, 30))
    assert seen.registered == {"w29"}
