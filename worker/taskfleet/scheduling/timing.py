"""The ticks of a schedule, and the decision which due tick fires. All functions are pure: no clock is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from taskfleet import checks
from taskfleet.errors import ConfigurationError

_SHORTEST_MS = 1000


class Timing(Protocol):
    """The ticks of a schedule, in milliseconds since the epoch."""

    @property
    def identity(self) -> str:
        """A text that is equal for two timings with the same ticks."""
        ...

    def following(self, after_ms: int) -> int | None:
        """The first tick later than `after_ms`, or `None` when there is none."""
        ...


class Interval:
    """A tick at every whole multiple of a duration since the epoch, and so at the same instants on every machine.

    `every` is in seconds, at least 1, with a precision of milliseconds.
    """

    __slots__ = ("_every_ms", "identity")

    def __init__(self, every: float | timedelta) -> None:
        seconds = checks.seconds_in(every)
        if seconds is None or not _SHORTEST_MS / 1000 <= seconds <= checks.MOST_SECONDS:
            raise ConfigurationError(
                f"every={checks.shown(every)} is not valid; expected at least 1 second, and at most 100 years"
            )
        self._every_ms = round(seconds * 1000)
        self.identity = f"every {self._every_ms} ms"

    def following(self, after_ms: int) -> int | None:
        return (after_ms // self._every_ms + 1) * self._every_ms


def timing_of(schedule: str | None, every: float | timedelta | None, time_zone: str) -> Timing:
    """The timing of a schedule; `ConfigurationError` unless exactly one of `schedule` and `every` is given."""
    if (schedule is None) == (every is None):
        raise ConfigurationError("a schedule needs either schedule= (a cron expression) or every= (seconds), not both")
    if every is not None:
        return Interval(every)
    assert schedule is not None
    from taskfleet.scheduling.cron import Cron  # its libraries and time zones are for workers with schedules

    return Cron(schedule, time_zone)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a schedule whose tick is due.

    `fire_ms` is the tick to fire, or `None`; `dropped` means that ticks came too late to fire; `next_ms` is the tick to
    wait for.
    """

    fire_ms: int | None
    dropped: bool
    next_ms: int | None


def judge(timing: Timing, tick_ms: int, now_ms: int, deadline_ms: int | None) -> Verdict:
    """Decide about the tick `tick_ms` and the ticks missed after it, up to `now_ms`.

    All missed ticks fire as one, the latest. It is dropped when it is more than `deadline_ms` late. The cost grows with
    the logarithm of the time since `tick_ms`.
    """
    latest = latest_tick(timing, tick_ms, now_ms)
    late = deadline_ms is not None and now_ms - latest > deadline_ms
    dropped = deadline_ms is not None and now_ms - tick_ms > deadline_ms
    return Verdict(None if late else latest, dropped, timing.following(max(now_ms, tick_ms)))


def latest_tick(timing: Timing, tick_ms: int, now_ms: int) -> int:
    """The last tick up to `now_ms`, found from the earlier tick `tick_ms`."""
    low, high = tick_ms, now_ms
    while low < high:
        middle = (low + high) // 2
        tick = timing.following(middle)
        if tick is not None and tick <= now_ms:
            tick_ms = low = tick
        else:
            high = middle
    return tick_ms
