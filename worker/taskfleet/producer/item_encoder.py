"""Encodes messages as items, with the application's limits and seal, and finds the partition of each task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from taskfleet.application import Application
from taskfleet.context import CURRENT, current_id
from taskfleet.protocol import call_settings
from taskfleet.protocol.clock import FRESH_SECONDS, Clock, ClockUnknownError
from taskfleet.protocol.item import Item
from taskfleet.protocol.partitions import Partition, spread
from taskfleet.tasks.message import Message

T = TypeVar("T")


def parent_setting() -> dict[str, Any] | None:
    """The setting that names the task whose code sends now; `None` outside of a task."""
    if CURRENT.get() is None or (parent := current_id()) is None:
        return None
    return {call_settings.PARENT: parent}


class ItemEncoder:
    """Encodes the messages of one application, for one broker."""

    def __init__(self, application: Application, clock: Clock) -> None:
        self.max_payload_bytes = application.max_payload_bytes
        self.seal = application.seal if application.seal.writes else None
        self._options_of = application.options_of
        self._clock = clock
        self.now_ms: Callable[[Partition], float] = functools.partial(clock.now_ms, within=FRESH_SECONDS)

    def encode(self, message: Message[Any]) -> Item:
        """The item of a message. Errors: `ClockUnknownError`, and those of `Message.encode`."""
        return message.encode(self.max_payload_bytes, self.seal, clock=self.now_ms, more_settings=parent_setting())

    async def by_the_clock(self, encode: Callable[[], T]) -> T:
        """Call `encode`, which may need the time of Redis for an expiry.

        If the time is not known, Redis is asked first.
        """
        while True:
            try:
                return encode()
            except ClockUnknownError as error:
                await self._clock.ask(error.partition)

    def partition_of(self, message: Message[Any], task_id: str) -> Partition:
        """The partition of a task."""
        queue = message.queue
        partitions = self._options_of(queue).partitions
        if partitions == 1:
            return queue  # type: ignore[return-value]  # Partition(queue) would cost 40 ns for each task
        return spread(queue, partitions, message.spread_key or task_id)
