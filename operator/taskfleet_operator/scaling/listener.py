"""Listens to one Redis for queues that have work again, and notices when it has become deaf."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.protocol.stats import QueueStats
from taskfleet.supervising import supervise

logger = showing.logger("taskfleet.scaling")

_SUBSCRIBED_WITHIN_SECONDS = 30.0
_MISSES = 3  # tasks that came unannounced, in a row, before the subscription is made anew
_SILENCE_SECONDS = 60.0  # a listener that has heard something within so long is not deaf
_MARGIN_SECONDS = 0.5  # an announcement may come a moment after the task was read


class AnnouncingBroker(Protocol):
    """The method of `taskfleet.redis.broker.RedisBroker` that the listener uses."""

    def activity(self) -> AsyncIterator[str]: ...


class _EndedError(Exception):
    """The announcements have ended, though they never should."""


class QueueListener:
    """Calls `heard(queue)` for each queue that has work again, and `heard("")` when announcements may be missing.

    A subscription that ends, raises or hangs is made anew. That it hangs is seen from outside: polls find tasks in
    queues that were empty, again and again, and nothing was heard of them.
    """

    def __init__(self, subject: str, broker: AnnouncingBroker, heard: Callable[[str], None]) -> None:
        self._subject = subject
        self._broker = broker
        self._heard = heard
        self._seen: dict[str, QueueStats] = {}
        self._ending: set[asyncio.Task[Any]] = set()
        self._subscriptions = 0
        self._start()

    @property
    def notice(self) -> str:
        """Says so while no announcement can be heard, "" otherwise."""
        if self._subscribed or time.monotonic() - self._started < _SUBSCRIBED_WITHIN_SECONDS:
            return ""
        return "work is not announced, as the subscription gets no answer; the polls find it"

    @property
    def dead(self) -> bool:
        """Whether it has ended, which no listener does before it is closed."""
        return self._task.done()

    @property
    def restarts(self) -> int:
        """How often the subscription was made anew."""
        return max(0, self._subscriptions - 1)

    def compare(self, stats: Mapping[str, QueueStats]) -> None:
        """Compare figures that were just read with the ones before, and with what was announced."""
        unannounced = False
        for name, now in stats.items():
            before, self._seen[name] = self._seen.get(name), now
            if before is not None and now.ready and not before.ready:
                # A delayed task that falls due is announced by a worker, if at all.
                unannounced |= now.enqueued_total > before.enqueued_total and now.delayed <= before.delayed
        if unannounced:
            asyncio.get_running_loop().call_later(_MARGIN_SECONDS, self._missed)
        if not self._subscribed and time.monotonic() - self._started > _SUBSCRIBED_WITHIN_SECONDS:
            self._restart("it gets no answer")

    async def close(self) -> None:
        await end([self._task, *self._ending])

    def _missed(self) -> None:
        now = time.monotonic()
        if now - max(self._heard_at, self._started) > _SILENCE_SECONDS:
            self._misses += 1
            if self._misses >= _MISSES:
                self._restart(f"{self._misses} times tasks came unannounced")

    def _restart(self, why: str) -> None:
        logger.warning("%s: the listener for work is started again: %s", self._subject, why)
        ending = asyncio.ensure_future(end([self._task]))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._start()

    def _start(self) -> None:
        self._started, self._heard_at, self._subscribed, self._misses = time.monotonic(), float("-inf"), False, 0
        subject = f"{self._subject}: the listener for work"
        self._task: asyncio.Task[None] = asyncio.ensure_future(supervise(subject, self._listen))

    async def _listen(self) -> None:
        me = asyncio.current_task()
        self._subscriptions += 1
        try:
            async for name in self._broker.activity():
                if me is self._task:
                    self._subscribed, self._misses, self._heard_at = True, 0, time.monotonic()
                    self._heard(name)
        finally:
            if me is self._task:
                self._subscribed = False
        raise _EndedError("the subscription has ended")
