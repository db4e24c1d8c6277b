"""Waiting for the end of tasks without polling: one subscription for all waiters of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from taskfleet import background
from taskfleet.cancellation import end
from taskfleet.supervising import supervise

if TYPE_CHECKING:
    from taskfleet.protocol.broker import Broker


class Completions:
    """Listens to the endings in the partitions that somebody waits on, and sets the events of those who wait."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._ready: dict[str, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def expect(self, place: str, task_id: str) -> AsyncGenerator[asyncio.Event]:
        """An event that is set when `task_id` ends. Once inside, the subscription stands."""
        event = asyncio.Event()
        self._waiting[task_id].add(event)
        try:
            if place not in self._listeners:
                self._ready[place] = asyncio.Event()
                self._listeners[place] = background.start(
                    supervise(f"waiting for the ends of tasks of {place}", lambda: self._listen(place))
                )
            await self._ready[place].wait()
            yield event
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _listen(self, place: str) -> None:
        async for message in self._broker.endings(place):
            if message:
                for event in self._waiting.get(message, ()):
                    event.set()
            else:
                # Subscribed, perhaps again: whatever ended in between was not heard.
                self._ready[place].set()
                for events in self._waiting.values():
                    for event in events:
                        event.set()

    async def close(self) -> None:
        await end(self._listeners.values())
        self._listeners.clear()
