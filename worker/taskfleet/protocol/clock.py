"""The clock of Redis, as a process reckons with it that has a clock of its own, perhaps a wrong one."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from taskfleet.protocol.partitions import Partition

FRESH_SECONDS = 60.0  # so long a process trusts its own counting of seconds


class ClockUnknownError(LookupError):
    """The time of a partition's Redis is not known, or has not been heard for too long: ask, and come again."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition)
        self.partition = partition


class Clock(Protocol):
    """The time by the clock that a partition goes by."""

    def now_ms(self, partition: Partition, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, heard at most `within` seconds ago. Errors: `ClockUnknownError`."""
        ...

    async def ask(self, partition: Partition) -> None:
        """Hear it now."""
        ...


class RedisClock:
    """Goes on from what Redis has said last. A reply takes its time, so this clock is behind by that, never ahead."""

    def __init__(
        self, ask: Callable[[Partition], Awaitable[int]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._heard: dict[
            Partition, tuple[float, float]
        ] = {}  # the time that it said, ms, and when, s by our own counting

    def hear(self, partition: Partition, now_ms: int) -> None:
        """Take note of a time that came with a reply."""
        self._heard[partition] = (now_ms, self._monotonic())

    def now_ms(self, partition: Partition, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, heard at most `within` seconds ago. Errors: `ClockUnknownError`."""
        said_ms, at = self._heard.get(partition, (0.0, -math.inf))
        passed = self._monotonic() - at
        if passed > within or passed == math.inf:
            raise ClockUnknownError(partition)
        return said_ms + passed * 1000

    async def ask(self, partition: Partition) -> None:
        """Hear it now."""
        self.hear(partition, await self._ask(partition))
