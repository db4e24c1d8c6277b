"""The clock of decisions: monotonic, with a fixed distance to the wall clock for times that are kept in `status`."""

from __future__ import annotations

import time
from collections.abc import Callable


class ScalingClock:
    """Seconds that never go back. A wall clock that is set, by an hour or by a year, changes no decision.

    The distance to the wall clock is taken once, so that all times which one process writes are in their true order.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._distance = wall_clock() - monotonic()

    def now(self) -> float:
        return self._monotonic()

    def wall(self, at: float) -> float:
        """Unix seconds of a time of this clock."""
        return at + self._distance

    def past(self, wall: float | None, *, ahead: float = 0.0) -> float | None:
        """The time of this clock for Unix seconds, such as one from `status`.

        None for a time that lies more than `ahead` seconds in the future: another clock was wrong, or a user wrote it.
        """
        if wall is None:
            return None
        at = wall - self._distance
        return at if at <= self.now() + ahead else None
