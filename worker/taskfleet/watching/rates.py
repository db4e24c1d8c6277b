"""Rates from counters that are read now and then."""

from __future__ import annotations

from collections import deque

_WINDOW_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0  # a mean over a longer one, while nobody looked, says nothing about now


class Rates:
    """The rates of some counters, over the last seconds."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, tuple[int, ...]]] = deque()

    def add(self, now: float, counters: tuple[int, ...]) -> None:
        """A reading at `now` (s). Counters that have gone back begin anew: their queue was emptied. So does a pause."""
        readings = self._readings
        if readings and now - readings[-1][0] > _LONGEST_PAUSE_SECONDS:
            readings.clear()
        if readings and any(new < old for new, old in zip(counters, readings[-1][1], strict=True)):
            readings.clear()
        readings.append((now, counters))
        while len(readings) > 2 and now - readings[1][0] >= _WINDOW_SECONDS:
            readings.popleft()

    def per_second(self) -> tuple[float, ...] | None:
        """The rate of each counter; `None` before the second reading, also after a long pause."""
        if len(self._readings) < 2:
            return None
        (first, before), (last, after) = self._readings[0], self._readings[-1]
        seconds = last - first
        if seconds <= 0:
            return None
        return tuple((new - old) / seconds for new, old in zip(after, before, strict=True))
