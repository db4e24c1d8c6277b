"""Introductions in Redis: a process writes who it is under the prefix of its ids, so that its tasks need not say it.

It happens beside an enqueue, once an hour, and for as long as the process lives. A failure has no effect but that a
reader does not learn who made an id.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Any

from taskfleet import background, cancellation, ids, showing
from taskfleet.protocol.introductions import AGAIN_SECONDS, KEPT_SECONDS
from taskfleet.redis.connection import RedisClient
from taskfleet.redis.keys import FleetKeys

_AFTER_FAILURE_SECONDS = 60.0

logger = showing.logger("taskfleet")


class Introduction:
    """The introduction of this process, over one client. A forked child introduces itself anew."""

    def __init__(self, client: RedisClient, fleet: FleetKeys) -> None:
        self._client = client
        self._fleet = fleet
        self._prefix = ""
        self._again_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_due(self) -> bool:
        return self._prefix != ids.prefix() or time.monotonic() >= self._again_at

    async def beside(self, key: str, member: str) -> None:
        """Add a member to a set, and introduce this process in the same message. Only errors of the first count."""
        if self._client.one_slot_only:  # another server may have the key, and none may keep the caller waiting
            self.start()
            await self._client.redis.sadd(key, member)
            return
        pipeline = self._client.redis.pipeline(transaction=False)
        pipeline.sadd(key, member)
        self._set(pipeline)
        added, told = await pipeline.execute(raise_on_error=False)
        if isinstance(added, Exception):
            raise added
        self._heard(None if told and not isinstance(told, Exception) else told)

    def start(self) -> None:
        """Introduce this process without waiting for it."""
        self._heard(None)
        self._sending = background.start(self._introduce())

    async def _introduce(self) -> None:
        try:
            await self._set(self._client.redis)
        except Exception as error:
            self._heard(error)

    def _set(self, client: Any) -> Any:
        return client.set(self._fleet.who(ids.prefix()), ids.who(), px=int(KEPT_SECONDS * 1000))

    def _heard(self, error: object) -> None:
        self._prefix = ids.prefix()
        self._again_at = time.monotonic() + (AGAIN_SECONDS if error is None else _AFTER_FAILURE_SECONDS)
        if error is not None:
            logger.debug("who sends from this process is not written: %s", error)
        elif self._timer is None:
            # A process that sends nothing more introduces itself for as long as it lives: its tasks may wait for days.
            me: weakref.ref[Introduction] = weakref.ref(self)
            self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, _again, me)

    def again(self) -> None:
        self._timer = None
        self.start()

    async def close(self) -> None:
        """The connections will be closed: nothing opens them again but the next enqueue."""
        self._stop_timer()
        # A broker may be used in one loop after the other: what an earlier one has sent ended with that loop.
        if self._sending is not None and self._sending.get_loop() is asyncio.get_running_loop():
            await cancellation.end([self._sending])

    def abandon(self) -> None:
        """As `close`, without waiting for an introduction that is on its way, also when its loop is closed."""
        self._stop_timer()
        if self._sending is not None and not self._sending.get_loop().is_closed():
            asyncio.Task.cancel(self._sending)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._again_at = 0.0


def _again(introduction: weakref.ref[Introduction]) -> None:
    if (known := introduction()) is not None:
        known.again()
