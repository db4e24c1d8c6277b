"""Waiting for the end of tasks without polling: one subscription for all callers of an event loop that wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from taskfleet import background
from taskfleet.cancellation import end
from taskfleet.protocol.partitions import Partition
from taskfleet.supervising import supervise

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker


class EndEvent(asyncio.Event):
    """Set when a task has ended, or may have. `record` is its result record, when that came with the message."""

    record: bytes | None = None


class Completions:
    """Subscribes to the completions of partitions in which a caller waits for a task, and wakes the callers."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[str, set[EndEvent]] = defaultdict(set)  # by task id
        self._listeners: dict[Partition, asyncio.Task[None]] = {}
        self._subscribed: dict[Partition, asyncio.Event] = {}

    def is_subscribed(self, partition: Partition) -> bool:
        """Whether completions of this partition arrive already."""
        subscribed = self._subscribed.get(partition)
        return subscribed is not None and subscribed.is_set()

    @contextlib.asynccontextmanager
    async def expect(self, partition: Partition, task_id: str) -> AsyncGenerator[EndEvent]:
        """An event that is set when the task ends. The subscription is active when the block is entered."""
        event = EndEvent()
        self._waiting[task_id].add(event)
        try:
            if partition not in self._listeners:
                self._subscribed[partition] = asyncio.Event()
                self._listeners[partition] = background.start(
                    supervise(f"waiting for the ends of tasks of {partition}", lambda: self._listen(partition))
                )
            await self._subscribed[partition].wait()
            yield event
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def _listen(self, partition: Partition) -> None:
        async for task_id, record in self._broker.endings(partition):
            if task_id:
                for event in self._waiting.get(task_id, ()):
                    event.record = event.record or record
                    event.set()
            else:
                # Subscribed, perhaps again: completions in between were missed, so all callers check the states of
                # their tasks.
                self._subscribed[partition].set()
                for events in self._waiting.values():
                    for event in events:
                        event.set()

    async def close(self) -> None:
        """End all subscriptions."""
        await end(self._listeners.values())
        self._listeners.clear()

    def abandon(self) -> None:
        """End all subscriptions, without waiting for it: nobody waits for a task any more."""
        if self._listeners:
            background.start(end(list(self._listeners.values())))
