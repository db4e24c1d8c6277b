"""Cron expressions in a time zone: the next tick after an instant.

cronsim has the grammar and the calendar, but no time zones. This module decides the meaning of wall-clock times on days
when the clocks change, in the same way as Debian's cron(8):

- A schedule whose minute or hour field begins with `*` follows elapsed time. Wall-clock times that the clocks skip do
  not tick, and repeated ones tick twice: `*/15 * * * *` ticks every quarter of an hour on any day.
- Any other schedule has one tick for each wall-clock time. A skipped time ticks at the first instant after the gap, and
  a repeated time ticks at its first occurrence only.

A six-field expression follows the same rule, by the same two fields. All functions are pure: instants are milliseconds
since the epoch, and no clock is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from taskfleet.errors import ConfigurationError

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_EXPECTED = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L (the last day) or LW (the last weekday)",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT (0 and 7 are Sunday), 5L (the last Friday) or MON#1 (the first Monday)",
}
_SECOND = timedelta(seconds=1)
# These zones differ between machines: two schedulers would not agree on the next tick.
_NOT_PORTABLE = {"local", "localtime", "posixrules", "factory"}


class Cron:
    """The ticks of a cron expression, by the wall clock of a time zone.

    Args:
        expression: five fields (minute, hour, day of month, month, day of week), six with seconds first, or a macro
            such as `@daily`.
        time_zone: a name of the IANA database.

    Errors: `ConfigurationError` names the field and the expected form.
    """

    __slots__ = ("_expression", "_frequent", "_zone", "identity")

    def __init__(self, expression: str, time_zone: str = "UTC") -> None:
        self._expression = _canonical(expression)
        self._zone = zone_of(time_zone)
        self.identity = f"{self._expression} {time_zone}"
        minute, hour = self._expression.split()[-5:-3]
        self._frequent = minute.startswith("*") or hour.startswith("*")
        if self.following(0) is None:
            raise ConfigurationError(f"schedule {expression!r} never ticks: no date of the next 50 years matches it")

    def following(self, after_ms: int) -> int | None:
        """The first tick later than `after_ms`, or `None` when there is none in the next 50 years."""
        after = datetime.fromtimestamp(after_ms // 1000, UTC)
        tick = self._next_elapsed(after) if self._frequent else self._next_named(after)
        return None if tick is None else int(tick.timestamp()) * 1000

    def _matches(self, wall: datetime) -> Iterator[datetime]:
        """Wall-clock times after `wall` that the expression names, in order."""
        return iter(CronSim(self._expression, wall))

    def _next_named(self, after: datetime) -> datetime | None:
        """The next tick of a schedule that ticks once for each of its wall-clock times."""
        local = after.astimezone(self._zone)
        wall = _wall(local)
        if local.fold and (change := _repetition(local, self._zone)) is not None:
            # The rest of the repeated hour has had its ticks: continue after it.
            wall = max(wall, change.ends - _SECOND)
        for match in self._matches(wall):
            early = match.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
            if _wall(early.astimezone(self._zone)) != match:
                early = _change_between(match, self._zone)
            if early > after:
                return early
        return None

    def _next_elapsed(self, after: datetime) -> datetime | None:
        """The next tick of a schedule that ticks at every instant whose wall-clock time matches."""
        local = after.astimezone(self._zone)
        wall = _wall(local)
        if not local.fold and (change := _repetition(local, self._zone)) is not None:
            match = next(self._matches(wall), None)
            if match is not None and match < change.ends:
                return match.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
            # The first pass of the repeated hour has no more ticks; the second starts at an earlier wall-clock time.
            wall = change.begins - _SECOND
        while True:
            match = next(self._matches(wall), None)
            if match is None:
                return None
            for fold in (0, 1):
                instant = match.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)
                if instant > after and _wall(instant.astimezone(self._zone)) == match:
                    return instant
            # The clocks skip this time: continue after the gap.
            wall = _wall(_change_between(match, self._zone).astimezone(self._zone)) - _SECOND


class _Repetition:
    """A stretch of wall-clock time that occurs twice: from `begins` to before `ends`."""

    __slots__ = ("begins", "ends")

    def __init__(self, begins: datetime, ends: datetime) -> None:
        self.begins = begins
        self.ends = ends


def _wall(local: datetime) -> datetime:
    return local.replace(tzinfo=None, fold=0)


def _repetition(local: datetime, zone: ZoneInfo) -> _Repetition | None:
    """The repeated stretch around an existing local time, in either pass."""
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return None
    change = _change(first, second, zone)
    ends = _wall((change - _SECOND).astimezone(zone)) + _SECOND
    return _Repetition(_wall(change.astimezone(zone)), ends)


def _change_between(skipped: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clocks jump over the wall-clock time `skipped`."""
    # A nonexistent time is read with the offset before the jump, or with fold=1 with the offset after it (PEP 495).
    early, late = sorted(skipped.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return _change(early, late, zone)


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first instant in (low, high] whose offset differs from that at `low`; whole seconds."""
    offset = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high


def zone_of(name: str) -> ZoneInfo:
    """The zone of that name; `ConfigurationError` for a name without the same meaning on all machines."""
    problem = f"time_zone {name!r} is not known; write a name of the IANA database, such as Europe/Berlin or UTC"
    if name.lower() in _NOT_PORTABLE:
        raise ConfigurationError(f"time_zone {name!r} differs from machine to machine; name one, such as Europe/Berlin")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        raise ConfigurationError(problem) from None


@lru_cache(maxsize=1024)
def _canonical(expression: str) -> str:
    """The fields in upper case with single blanks, macros expanded; `ConfigurationError` names the wrong field."""
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in MACROS:
            raise ConfigurationError(f"schedule {expression!r} is not known; expected one of {', '.join(MACROS)}")
        return MACROS[text.lower()]
    fields = text.upper().split()
    if len(fields) not in (5, 6):
        raise ConfigurationError(
            f"schedule {expression!r} has {len(fields)} fields; expected five (minute, hour, day of month, month, day "
            "of week), six with seconds first, or a name such as @daily"
        )
    canonical = " ".join(fields)
    try:
        CronSim(canonical, datetime(2000, 1, 1))
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        if name not in _FIELDS:
            raise ConfigurationError(f"schedule {expression!r}: {error}") from None
        value = fields[_FIELDS.index(name) - (6 - len(fields))]
        if name == "day-of-month" and _parses([*fields[:-2], "*", fields[-1]]):
            raise ConfigurationError(
                f"schedule {expression!r} never ticks: month {fields[-2]!r} has no day {value!r}"
            ) from None
        raise ConfigurationError(
            f"schedule {expression!r}: {name} {value!r} is not valid; expected * or {_EXPECTED[name]}, "
            f"also as a list (a,b), a range (a-b) or with a step (*/n)"
        ) from None
    return canonical


def _parses(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True
