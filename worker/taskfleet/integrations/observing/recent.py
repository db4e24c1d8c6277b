"""Earlier looks at the counters of the queues, for everything that is about a window of time.

A look is kept when somebody asks, so the window is the time between two questions: at least `_LEAST_SECONDS`, so that a
few tasks more or less do not look like a trend, and at most about `_MOST_SECONDS`. Each process has its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskfleet.protocol.stats import QueueStats

_LEAST_SECONDS = 5.0
_MOST_SECONDS = 300.0
_APART_SECONDS = 10.0  # so that few looks are kept, each with the figures of all queues


@dataclass(frozen=True, slots=True)
class Window:
    """What the counters of each queue have grown by in `seconds`."""

    seconds: float
    queues: Mapping[str, GrowthOfQueue]


@dataclass(frozen=True, slots=True)
class GrowthOfQueue:
    """How much the counters of one queue have grown."""

    enqueued: int
    finished: int
    failed: int
    attempts: int
    busy_ms: int


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    stats: Mapping[str, QueueStats]


class RecentLooks:
    """The looks of the last minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[_Look] = deque()

    def window_until(self, stats: Mapping[str, QueueStats]) -> Window | None:
        """Compare with the oldest look of the window, and keep this one. None when there is none old enough."""
        now = self._clock()
        # One look beyond the window stays, so that there is something to compare with after a long silence.
        while len(self._looks) > 1 and self._looks[1].at <= now - _MOST_SECONDS:
            self._looks.popleft()
        found = self._looks[0] if self._looks and self._looks[0].at <= now - _LEAST_SECONDS else None
        if not self._looks or self._looks[-1].at <= now - _APART_SECONDS:
            self._looks.append(_Look(now, dict(stats)))
        if found is None:
            return None
        growths = {
            queue: _growth(before, after)
            for queue, after in stats.items()
            if (before := found.stats.get(queue, _EMPTY)).enqueued_total <= after.enqueued_total
        }
        return Window(now - found.at, growths)


_EMPTY = QueueStats(0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0, False)


def _growth(before: QueueStats, after: QueueStats) -> GrowthOfQueue:
    return GrowthOfQueue(
        enqueued=after.enqueued_total - before.enqueued_total,
        finished=max(0, after.finished_total - before.finished_total),
        failed=max(0, after.failed_total - before.failed_total),
        attempts=max(0, after.attempts_total - before.attempts_total),
        busy_ms=max(0, after.busy_ms_total - before.busy_ms_total),
    )
