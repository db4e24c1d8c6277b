"""The ticks of a cron expression: on usual days, at the ends of months, and when the clocks change."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import ConfigurationError
from taskfleet.scheduling.cron import Cron


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The first `count` ticks after a moment, as local times with their offset."""
    cron, moment, found = Cron(expression, zone), ms(after), []
    for _ in range(count):
        following = cron.following(moment)
        assert following is not None
        moment = following
        found.append(datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).isoformat())
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/20 * * * *", "2026-01-31T23:50:00+00:00", ["2026-02-01T00:00:00", "2026-02-01T00:20:00"]),
        ("*/20 * * * * *", "2026-01-31T23:59:30+00:00", ["2026-01-31T23:59:40", "2026-02-01T00:00:00"]),
        ("0 9 * * MON-FRI", "2026-01-02T09:00:00+00:00", ["2026-01-05T09:00:00", "2026-01-06T09:00:00"]),
        ("0 0 31 * *", "2026-01-31T00:00:00+00:00", ["2026-03-31T00:00:00", "2026-05-31T00:00:00"]),
        ("0 0 L * *", "2028-01-31T00:00:00+00:00", ["2028-02-29T00:00:00", "2028-03-31T00:00:00"]),
        ("0 0 LW * *", "2026-01-30T00:00:00+00:00", ["2026-02-27T00:00:00", "2026-03-31T00:00:00"]),
        ("0 0 29 2 *", "2096-02-29T00:00:00+00:00", ["2104-02-29T00:00:00", "2108-02-29T00:00:00"]),
        ("0 0 * * MON#1", "2026-06-01T00:00:00+00:00", ["2026-07-06T00:00:00", "2026-08-03T00:00:00"]),
        ("0 0 13 * FRI", "2026-02-12T00:00:00+00:00", ["2026-02-13T00:00:00", "2026-02-20T00:00:00"]),
        ("@hourly", "2026-01-31T23:00:00.999+00:00", ["2026-02-01T00:00:00", "2026-02-01T01:00:00"]),
        (" @Weekly ", "2026-01-01T00:00:00+00:00", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),
        ("0 0 * JAN sun", "2026-01-26T00:00:00+00:00", ["2027-01-03T00:00:00", "2027-01-10T00:00:00"]),
    ],
)
def test_expressions_have_the_meaning_of_cron(expression: str, after: str, expected: list[str]) -> None:
    assert ticks(expression, "UTC", after, 2) == [f"{moment}+00:00" for moment in expected]


def test_a_time_that_the_clocks_skip_ticks_when_they_have_jumped() -> None:
    expected = ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00", 3) == expected
    assert ticks("0 30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00", 3) == expected


def test_several_skipped_times_tick_once_together() -> None:
    expected = ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:00:00+02:00"]
    assert ticks("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00", 3) == expected


def test_a_skipped_midnight_ticks_at_the_first_moment_of_the_day() -> None:
    expected = ["2026-09-05T00:00:00-04:00", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"]
    assert ticks("0 0 * * *", "America/Santiago", "2026-09-04T12:00:00-04:00", 3) == expected


def test_a_time_that_the_clocks_repeat_ticks_the_first_time_only() -> None:
    expected = ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00+02:00", 3) == expected
    # Also when the question comes in the middle of the repeated hour, before and after that time.
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", 1) == expected[2:]
    assert ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T02:50:00+01:00", 1) == expected[2:]


def test_ticks_of_the_repeated_hour_are_not_walked_through_again() -> None:
    cron, moment = Cron("0-59 0-59 2 * * *", "Europe/Berlin"), ms("2026-10-25T02:00:00+01:00")
    began = time.process_time()
    assert {cron.following(moment + n) for n in range(30)} == {ms("2026-10-26T02:00:00+01:00")}
    assert time.process_time() - began < 0.1


def test_a_schedule_of_every_so_many_minutes_follows_elapsed_time() -> None:
    assert ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00", 3) == [
        "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00",
    ]  # fmt: skip
    assert ticks("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:00:00+02:00", 4) == [
        "2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]  # fmt: skip


def test_half_an_hour_of_daylight_saving_is_no_other_case() -> None:
    assert ticks("15,45 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:00:00+11:00", 3) == [
        "2026-04-05T01:15:00+11:00", "2026-04-05T01:45:00+11:00", "2026-04-06T01:15:00+10:30",
    ]  # fmt: skip
    assert ticks("*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:40:00+11:00", 4) == [
        "2026-04-05T01:45:00+11:00", "2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30",
        "2026-04-05T02:00:00+10:30",
    ]  # fmt: skip


def test_a_day_that_was_skipped_whole_ticks_once() -> None:
    # Samoa skipped 30 December 2011.
    expected = ["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]
    assert ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00-10:00", 3) == expected


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("61 * * * *", "minute '61' is not valid; expected * or 0-59"),
        ("0 99 * * * *", "minute '99' is not valid"),
        ("60 0 0 * * *", "second '60' is not valid"),
        ("0 24 * * *", "hour '24' is not valid; expected * or 0-23"),
        ("0 0 32 * *", "day-of-month '32' is not valid"),
        ("0 0 * 13 *", "month '13' is not valid; expected * or 1-12 or JAN-DEC"),
        ("0 0 * * 8", "day-of-week '8' is not valid; expected * or 0-7 or SUN-SAT"),
        ("5-1 * * * *", "minute '5-1' is not valid"),
        ("*/0 * * * *", "minute '*/0' is not valid"),
        ("0 0 30 2 *", "never ticks: month '2' has no day '30'"),
        ("* * */20 * 1L", "never ticks: no date of the next 50 years"),
        ("* * *", "has 3 fields; expected five"),
        ("* * * * * * *", "has 7 fields; expected five"),
        ("", "has 0 fields"),
        ("@reboot", "'@reboot' is not known; expected one of @yearly, @annually"),
    ],
)
def test_a_wrong_expression_is_one_line_that_names_the_field(expression: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cron(expression)
    assert problem in str(caught.value)
    assert f"schedule {expression!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zone", ["Mars/Base", "Europe", "", "../UTC", "zone.tab", "\0", "Europe/Berlín"])
def test_a_wrong_zone_is_named(zone: str) -> None:
    with pytest.raises(ConfigurationError, match=r"time_zone .* is not known; write a name of the IANA database"):
        Cron("* * * * *", zone)


@pytest.mark.parametrize("zone", ["Local", "localtime"])
def test_a_zone_that_differs_between_machines_is_refused(zone: str) -> None:
    with pytest.raises(ConfigurationError, match="differs from machine to machine"):
        Cron("* * * * *", zone)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(1, high).map(lambda n: f"*/{n}"),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.lists(number, min_size=1, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
    )


FIVE = st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 7)).map(" ".join)
SIX = st.tuples(_field(0, 59), FIVE).map(" ".join)
ZONES = st.sampled_from([
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca",
    "Antarctica/Troll", "Asia/Kathmandu", "Pacific/Apia", "Europe/Dublin", "Asia/Gaza",
])  # fmt: skip
# Many moments are just around a change of the clocks in one of the zones.
MOMENTS = st.one_of(
    st.integers(ms("2005-01-01T00:00:00+00:00"), ms("2060-01-01T00:00:00+00:00")),
    st.tuples(
        st.sampled_from([
            ms("2026-03-29T01:00:00+00:00"), ms("2026-10-25T01:00:00+00:00"), ms("2026-03-08T07:00:00+00:00"),
            ms("2026-11-01T06:00:00+00:00"), ms("2026-04-04T15:00:00+00:00"), ms("2026-10-03T15:30:00+00:00"),
            ms("2026-09-06T04:00:00+00:00"), ms("2011-12-30T10:00:00+00:00"),
        ]),
        st.integers(-3 * 3600 * 1000, 3 * 3600 * 1000),
    ).map(sum),
)  # fmt: skip


@given(st.one_of(FIVE, SIX), ZONES, MOMENTS)
def test_the_next_tick_is_later_on_a_whole_second_and_nothing_lies_between(
    expression: str, zone: str, moment: int
) -> None:
    cron = Cron(expression, zone)
    tick = cron.following(moment)
    assert tick is not None
    assert tick > moment
    assert tick % 1000 == 0
    # The next tick is the same from any earlier moment: schedulers need not ask at the same time.
    assert cron.following((moment + tick) // 2) == tick
    assert cron.following(tick - 1) == tick


@given(st.one_of(FIVE, SIX), ZONES, MOMENTS, MOMENTS)
def test_who_asks_later_gets_no_earlier_tick(expression: str, zone: str, one: int, other: int) -> None:
    cron = Cron(expression, zone)
    first, second = cron.following(min(one, other)), cron.following(max(one, other))
    assert first is not None
    assert second is not None
    assert first <= second


@given(FIVE, st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]), MOMENTS)
def test_five_fields_tick_as_in_cronsims_own_zones(expression: str, zone: str, moment: int) -> None:
    start = datetime.fromtimestamp(moment // 1000, ZoneInfo(zone))
    theirs = itertools.islice(CronSim(expression, start - timedelta(hours=3)), 300)
    expected = next((tick for tick in theirs if tick.astimezone(UTC) > start.astimezone(UTC)), None)
    if expected is not None:
        assert Cron(expression, zone).following(moment) == int(expected.timestamp()) * 1000


@given(st.text(st.sampled_from("0123456789*/-,#LW@ JANMO"), max_size=20))
def test_any_text_is_a_schedule_or_a_configuration_error(text: str) -> None:
    try:
        cron = Cron(text)
    except ConfigurationError:
        return
    assert cron.following(0) is not None
