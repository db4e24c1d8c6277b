"""The clock of Redis, estimated by a process whose own clock may be wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from taskfleet.protocol.partitions import Partition

FRESH_SECONDS = 60.0  # how long a process trusts its own count of seconds


class ClockUnknownError(LookupError):
    """The time of a partition's Redis is not known, or is too old: ask for it and try again."""

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition)
        self.partition = partition


class Clock(Protocol):
    """The time by the clock of a partition."""

    def now_ms(self, partition: Partition, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, from a reply at most `within` seconds ago. Errors: `ClockUnknownError`."""
        ...

    async def ask(self, partition: Partition) -> None:
        """Ask for the time now."""
        ...

    def when_moved(self, call: Callable[[float], None]) -> Callable[[], None]:
        """`call(seconds)`, in any thread, each time a test moves this clock. Returns a function that ends it."""
        ...


class RedisClock:
    """Counts on from the last time that Redis sent. It is behind by the delay of that reply, and never ahead."""

    def __init__(
        self, ask: Callable[[Partition], Awaitable[int]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        # The time (ms) in the last reply, and the local time (s) at which it arrived.
        self._heard: dict[Partition, tuple[float, float]] = {}

    def hear(self, partition: Partition, now_ms: int) -> None:
        """Take note of a time that came with a reply."""
        self._heard[partition] = (now_ms, self._monotonic())

    def now_ms(self, partition: Partition, *, within: float = math.inf) -> float:
        """Milliseconds since 1970, from a reply at most `within` seconds ago. Errors: `ClockUnknownError`."""
        said_ms, at = self._heard.get(partition, (0.0, -math.inf))
        passed = self._monotonic() - at
        if passed > within or passed == math.inf:
            raise ClockUnknownError(partition)
        return said_ms + passed * 1000

    async def ask(self, partition: Partition) -> None:
        """Ask for the time now."""
        self.hear(partition, await self._ask(partition))

    def when_moved(self, call: Callable[[float], None]) -> Callable[[], None]:
        """Nobody moves the clock of Redis."""
        return lambda: None
