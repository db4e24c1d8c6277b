"""A Redis that answers now and then: its condition does not change with each look."""

from __future__ import annotations

import pytest

from taskfleet_operator.control.status.reachability import Reachability


def changes(answers: str, *, seconds: float = 5.0) -> list[tuple[float, str]]:
    """The changes of what is told, with their times, for looks that fail (F) or not (.)."""
    found, told, now = Reachability(), "reachable", 0.0
    seen: list[tuple[float, str]] = []
    for answer in answers:
        found.saw("refused" if answer == "F" else "", now)
        says = "reachable" if not found.failure else "flapping" if found.flapping else "unreachable"
        if says != told:
            seen.append((now, says))
            told = says
        now += seconds
    return seen


def test_one_outage_ends_with_the_first_answer() -> None:
    assert changes(".FFFF....") == [(5, "unreachable"), (25, "reachable")]


@pytest.mark.parametrize("period", ["F.", "F..", "FF.", "FFFFF....."])
def test_a_redis_that_answers_now_and_then_is_told_three_times_in_an_hour(period: str) -> None:
    found = changes((period * 720)[:720])
    assert [says for _, says in found] == ["unreachable", "reachable", "flapping"]


def test_it_is_over_when_it_has_answered_for_a_minute() -> None:
    found = changes("F.F" + "." * 12 + "." * 5)
    assert found == [(0, "unreachable"), (5, "reachable"), (10, "flapping"), (75, "reachable")]


def test_an_outage_long_after_another_is_the_first_again() -> None:
    assert [says for _, says in changes("F" + "." * 61 + "F")] == ["unreachable", "reachable", "unreachable"]


def test_a_failure_every_four_minutes_costs_few_writes() -> None:
    assert len(changes(("F" + "." * 47) * 10)) <= 2 * 10
