"""Missed ticks: which of them still fires."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import ConfigurationError
from taskfleet.scheduling.cron import Cron
from taskfleet.scheduling.timing import Interval, Verdict, judge, latest_tick, timing_of

MINUTE = 60_000
DAY = 86_400_000


class Counted:
    """A timing that counts the calls of its methods."""

    def __init__(self, every_ms: int) -> None:
        self.identity = ""
        self.asked = 0
        self._every_ms = every_ms

    def following(self, after_ms: int) -> int | None:
        self.asked += 1
        return (after_ms // self._every_ms + 1) * self._every_ms


def test_a_tick_in_time_fires_and_the_next_one_follows() -> None:
    assert judge(Cron("* * * * *"), MINUTE, MINUTE + 20, 5000) == Verdict(MINUTE, False, 2 * MINUTE)


def test_missed_ticks_fire_as_one_the_latest() -> None:
    assert judge(Cron("* * * * *"), MINUTE, 10 * MINUTE + 7, None) == Verdict(10 * MINUTE, False, 11 * MINUTE)


def test_a_tick_beyond_its_starting_deadline_is_dropped() -> None:
    assert judge(Cron("* * * * *"), MINUTE, MINUTE + 5001, 5000) == Verdict(None, True, 2 * MINUTE)
    assert judge(Cron("* * * * *"), MINUTE, MINUTE + 5000, 5000) == Verdict(MINUTE, False, 2 * MINUTE)


def test_after_a_long_downtime_a_tick_within_its_deadline_still_fires() -> None:
    # Three midnights were missed; the last of them is two minutes ago.
    verdict = judge(Cron("0 0 * * *"), DAY, 3 * DAY + 2 * MINUTE, 5 * MINUTE)
    assert verdict == Verdict(3 * DAY, True, 4 * DAY)


def test_a_million_missed_ticks_are_not_walked_through() -> None:
    timing = Counted(1000)
    assert judge(timing, 1000, 1_000_000_500, None) == Verdict(1_000_000_000, False, 1_000_001_000)
    assert timing.asked < 100


@given(st.integers(1000, 10**7), st.integers(0, 10**6), st.integers(0, 10**12))
def test_the_latest_missed_tick_is_the_last_multiple(every: int, first: int, gap: int) -> None:
    tick = first * every
    now = tick + gap
    assert latest_tick(Counted(every), tick, now) == now // every * every


def test_an_interval_ticks_at_multiples_of_itself() -> None:
    assert Interval(90).following(0) == 90_000
    assert Interval(90).following(89_999) == 90_000
    assert Interval(timedelta(minutes=1.5)).following(90_000) == 180_000
    assert Interval(1.5).following(1_500) == 3_000


@pytest.mark.parametrize("every", [0, -1, 0.5, float("nan"), float("inf")])
def test_an_interval_that_cannot_be_is_refused(every: float) -> None:
    with pytest.raises(ConfigurationError, match=r"every=.* is not valid; expected at least 1 second"):
        Interval(every)


def test_a_timing_is_either_cron_or_an_interval() -> None:
    for schedule, every in ((None, None), ("@daily", 5.0)):
        with pytest.raises(ConfigurationError, match=r"needs either schedule= .* or every="):
            timing_of(schedule, every, "UTC")


def test_the_same_ticks_have_the_same_identity_however_they_are_written() -> None:
    assert Cron("@hourly").identity == Cron(" 0  * * * * ").identity
    assert Cron("0 0 * * mon").identity == Cron("0 0 * * MON").identity
    assert Cron("@hourly").identity != Cron("@hourly", "Asia/Kathmandu").identity
    assert Interval(60).identity == Interval(timedelta(minutes=1)).identity
