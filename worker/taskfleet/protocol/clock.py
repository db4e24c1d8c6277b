"""The clock of Redis, as a process reckons with it that has a clock of its own, perhaps a wrong one."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

FRESH_SECONDS = 60.0  # so long a process trusts its own counting of seconds


class ClockUnknownError(LookupError):
    """The time of a queue's Redis is not known, or has not been heard for too long: ask, and come again."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.queue = queue


class Clock(Protocol):
    """What time it is where a queue lives, or one of its partitions."""

    def now_ms(self, queue: str, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, heard at most `within` seconds ago. Errors: `ClockUnknownError`."""
        ...

    async def ask(self, queue: str) -> None:
        """Hear it now."""
        ...


class RedisClock:
    """Goes on from what Redis has said last. A reply takes its time, so this clock is behind by that, never ahead."""

    def __init__(self, ask: Callable[[str], Awaitable[int]], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._heard: dict[str, tuple[float, float]] = {}  # queue → what it said, ms; when, s by our own counting

    def hear(self, queue: str, now_ms: int) -> None:
        """Take note of a time that came with a reply."""
        self._heard[queue] = (now_ms, self._monotonic())

    def now_ms(self, queue: str, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, heard at most `within` seconds ago. Errors: `ClockUnknownError`."""
        said_ms, at = self._heard.get(queue, (0.0, -math.inf))
        passed = self._monotonic() - at
        if passed > within or passed == math.inf:
            raise ClockUnknownError(queue)
        return said_ms + passed * 1000

    async def ask(self, queue: str) -> None:
        """Hear it now."""
        self.hear(queue, await self._ask(queue))
