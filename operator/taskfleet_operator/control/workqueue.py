"""A queue of keys to reconcile: one call per key at a time, with a growing delay after failures."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from taskfleet import showing
from taskfleet.supervising import supervise

from .cluster_store import Key
from .kubernetes_api import NotLeadingError

logger = showing.logger("taskfleet.operator")

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.2, 30.0
_NOT_LEADING_SECONDS = 1.0  # the term ends, or a late renewal lets it go on


class WorkQueue:
    """Calls `handle(key)` for every key added. A key added during its own call is handled once more afterwards."""

    def __init__(self, handle: Callable[[Key], Awaitable[float | None]], workers: int = 4) -> None:
        self._handle = handle
        self._workers = workers
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: dict[Key, float] = {}  # in their order, with the time of the first `add`
        self._active: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Handle `key` soon, or after some seconds. Of several calls the earliest counts."""
        if after > 0:
            loop = asyncio.get_running_loop()
            timer = self._timers.get(key)
            if timer is None or timer.cancelled() or timer.when() > loop.time() + after:
                if timer is not None:
                    timer.cancel()
                self._timers[key] = loop.call_later(after, self.add, key)
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued[key] = time.monotonic()
            self._waiting.put_nowait(key)

    @property
    def depth(self) -> int:
        """Keys that wait for a worker."""
        return len(self._queued)

    @property
    def oldest_seconds(self) -> float:
        """How long the first of them has waited, 0 when none waits."""
        return _since(self._queued)

    @property
    def longest_call_seconds(self) -> float:
        """How long the longest call that runs now has taken, 0 when none runs."""
        return _since(self._active)

    async def run(self) -> None:
        await asyncio.gather(*(supervise("the reconciler", self._work) for _ in range(self._workers)))

    async def _work(self) -> None:
        while True:
            key = await self._waiting.get()
            self._queued.pop(key, None)
            self._active[key] = time.monotonic()
            try:
                again_after = await self._handle(key)
                self._failures.pop(key, None)
                if again_after is not None:
                    self.add(key, after=again_after)
            except NotLeadingError:
                self.add(key, after=_NOT_LEADING_SECONDS)
            except Exception as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
                delay *= 0.5 + random.random() / 2
                logger.warning("%s/%s: %s (again in %.1f s)", *key, error, delay, exc_info=failures == 3)
                self.add(key, after=delay)
            finally:
                self._active.pop(key, None)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)


def _since(times: dict[Key, float]) -> float:
    return max(0.0, time.monotonic() - min(times.values())) if times else 0.0
