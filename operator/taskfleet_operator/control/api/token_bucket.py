"""A token bucket: at most so many writes a second. The most urgent of those that wait goes first."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()
        self._closed_until = 0.0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, urgency: int, *, seconds: float) -> None:
        """Wait for a token, `TimeoutError` after `seconds`. A smaller `urgency` goes first, equal ones in order."""
        self._fill()
        if self._tokens >= 1.0 and not self._waiting:
            self._tokens -= 1.0
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (urgency, self._number, granted))
        self._serve()
        try:
            async with asyncio.timeout(seconds):
                await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                self._tokens += 1.0  # granted in the same moment, and not used
            granted.cancel()
            raise

    def close_for(self, seconds: float) -> None:
        """Give no token for so long: the server has asked for a pause."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def waiting(self) -> int:
        return sum(not granted.done() for _, _, granted in self._waiting)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(float(self._burst), self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if now < self._closed_until:
            self._tokens = min(self._tokens, 0.0)

    def _serve(self) -> None:
        self._fill()
        while self._waiting and (self._tokens >= 1.0 or self._waiting[0][2].done()):
            _, _, granted = heapq.heappop(self._waiting)
            if not granted.done():
                self._tokens -= 1.0
                granted.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            pause = max((1.0 - self._tokens) / self._rate, self._closed_until - self._clock())
            self._timer = asyncio.get_running_loop().call_later(pause, self._serve)
