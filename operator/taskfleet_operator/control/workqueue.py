"""A queue of keys to reconcile: one call per key at a time, changes before resyncs, a growing delay after failures."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from taskfleet import showing
from taskfleet.supervising import supervise

from .api.api_connection import ApiError, NotLeadingError
from .store.cluster_store import Key

logger = showing.logger("taskfleet.operator")

WORKERS = 8
CALL_SECONDS = 60.0
"""A call that takes longer is cancelled, and made again later: it holds one of few workers."""

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.2, 30.0
_NOT_LEADING_SECONDS = 1.0  # the term ends, or a late renewal lets it go on
_SPREAD = 0.2  # of the time to the next resync, so that TaskQueues that began together do not come together for ever
_CHANGES_IN_A_ROW = 4  # then one key that came by a timer


class WorkQueue:
    """Calls `handle(key)` for every key added. A key added during its own call is handled once more afterwards.

    `handle` returns the seconds until its next call, or None for no call.
    """

    def __init__(
        self,
        handle: Callable[[Key], Awaitable[float | None]],
        workers: int = WORKERS,
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._handle = handle
        self._workers = workers
        self._call_seconds = call_seconds
        self._changed: OrderedDict[Key, float] = OrderedDict()  # with the time since when they wait
        self._timed: OrderedDict[Key, float] = OrderedDict()
        self._changes_in_a_row = 0
        self._tickets: asyncio.Queue[None] = asyncio.Queue()  # one for each key that waits
        self._active: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Handle `key` soon, or after some seconds. Of several calls the earliest counts."""
        if after > 0:
            loop = asyncio.get_running_loop()
            timer = self._timers.get(key)
            if timer is None or timer.when() > loop.time() + after:
                if timer is not None:
                    timer.cancel()
                self._timers[key] = loop.call_later(after, self._enter, key, self._timed)
            return
        self._enter(key, self._changed)

    async def run(self) -> None:
        await asyncio.gather(*(supervise("the reconciler", self._work) for _ in range(self._workers)))

    @property
    def depth(self) -> int:
        """How many keys wait for a worker."""
        return len(self._changed) + len(self._timed)

    @property
    def oldest_seconds(self) -> float:
        """For how long the first of them has waited; 0 when none waits."""
        now = time.monotonic()
        return max((now - since for since in (*self._changed.values(), *self._timed.values())), default=0.0)

    @property
    def longest_call_seconds(self) -> float:
        """For how long the longest call that runs now has run. It is cancelled after a minute: above two, it hangs."""
        return max((time.monotonic() - began for began in self._active.values()), default=0.0)

    def _enter(self, key: Key, line: OrderedDict[Key, float]) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key in self._timed and line is self._changed:
            self._changed[key] = self._timed.pop(key)
        elif key not in self._changed and key not in self._timed:
            line[key] = time.monotonic()
            self._tickets.put_nowait(None)

    def _next(self) -> Key:
        """Changes first, each line in its order; a few changes in a row let one of the others through."""
        turn_of_timed = not self._changed or (self._timed and self._changes_in_a_row >= _CHANGES_IN_A_ROW)
        self._changes_in_a_row = 0 if turn_of_timed else self._changes_in_a_row + 1
        key, _ = (self._timed if turn_of_timed else self._changed).popitem(last=False)
        return key

    async def _work(self) -> None:
        while True:
            await self._tickets.get()
            key = self._next()
            self._active[key] = time.monotonic()
            try:
                await self._call(key)
            finally:
                del self._active[key]
                if key in self._again:
                    self._again.discard(key)
                    self._enter(key, self._changed)

    async def _call(self, key: Key) -> None:
        try:
            async with asyncio.timeout(self._call_seconds):
                again_after = await self._handle(key)
        except NotLeadingError:
            self.add(key, after=_NOT_LEADING_SECONDS)
        except Exception as error:
            self._retry(key, error)
        else:
            self._failures.pop(key, None)
            if again_after is not None:
                self.add(key, after=again_after * random.uniform(1 - _SPREAD, 1 + _SPREAD))

    def _retry(self, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
        delay *= 0.5 + random.random() / 2
        expected = isinstance(error, (ApiError, OSError, TimeoutError))
        if isinstance(error, ApiError):
            delay = max(delay, error.retry_after)
        words = str(error) or f"{type(error).__name__} after {self._call_seconds:g} s"
        logger.warning("%s/%s: %s (again in %.1f s)", *key, words, delay, exc_info=failures == 3 and not expected)
        self.add(key, after=delay)
