"""Bulk enqueues: many messages in one call of the application, all or nothing for each queue, in few calls to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from taskfleet import ids
from taskfleet.application import Application
from taskfleet.backoff import until_room
from taskfleet.errors import BulkEnqueueError, ConfigurationError, TaskQueueError
from taskfleet.handles import HandleFactory, TaskHandle
from taskfleet.producer import plain_calls
from taskfleet.producer.item_encoder import ItemEncoder, parent_setting
from taskfleet.producer.plain_calls import Handles
from taskfleet.protocol import bounds
from taskfleet.protocol.item import ITEM_ENVELOPE, ITEM_ID, Item
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.message import Message
from taskfleet.tasks.options import TaskOptions

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker

_KEPT_BYTES = 32 * 1_048_576  # of envelopes: nearly no bulk has more, so that nearly none is encoded twice


class Bulk:
    """Encoded messages, and the partition of each.

    All are encoded before the first is sent, so that an invalid one has no effect. Envelopes beyond `_KEPT_BYTES` are
    dropped, and encoded again by `encode(number of the message, task id)` when their call comes. So a program that
    sends more than its memory holds (one large argument, many times) needs only the memory of a few calls.
    """

    def __init__(self, encode: Callable[[int, str], Item]) -> None:
        self._encode = encode
        self.partitions: list[Partition] = []
        self.items: list[Item] = []
        self._dropped: dict[int, int] = {}  # position → number of the message

    def add_without_envelope(self, task_id: str, number: int) -> None:
        """Add the item of the message of that number, to be encoded again."""
        self._dropped[len(self.items)] = number
        self.items.append((task_id, b"", 0, 0, None))

    def by_partition(self) -> dict[Partition, Sequence[int]]:
        """The positions of each partition's items, in order."""
        if self.partitions and self.partitions.count(self.partitions[0]) == len(self.partitions):
            return {self.partitions[0]: range(len(self.partitions))}
        found: dict[Partition, list[int]] = defaultdict(list)
        for position, partition in enumerate(self.partitions):
            found[partition].append(position)
        return dict(found)

    def parts(self, positions: Sequence[int]) -> Iterator[tuple[int, Sequence[Item]]]:
        """The items at these positions in parts, one of which is in memory at a time: (index of the first, items)."""
        if not self._dropped:
            yield 0, self.items if len(positions) == len(self.items) else [self.items[at] for at in positions]
            return
        part: list[Item] = []
        start = size = 0
        for count, position in enumerate(positions):
            item = self.items[position]
            if position in self._dropped:
                item = self._encode(self._dropped[position], item[ITEM_ID])
            more = bounds.item_bytes(item)
            if part and size + more > bounds.CALL_BYTES:
                yield start, part
                part, start, size = [], count, 0
            part.append(item)
            size += more
        yield start, part


class BulkSender:
    """Sends bulks for one application, on one event loop."""

    def __init__(self, application: Application, broker: Broker, encoder: ItemEncoder, handle: HandleFactory) -> None:
        self._options_of = application.options_of
        self._broker = broker
        self._encoder = encoder
        self._handle = handle

    async def send(self, messages: Sequence[Message[Any]], *, wait_for_room: float) -> list[TaskHandle[Any]]:
        """Send many messages in order, all or nothing for each queue; see `TaskQueue.enqueue_many`."""
        bulk, errors = await self._encoder.by_the_clock(lambda: self._encode_all(messages))
        refused = {messages[index].queue for index, _ in errors}
        sending = asyncio.ensure_future(self._send(bulk, refused, wait_for_room))
        try:
            # Redis runs the first calls while the handles are made.
            handles = await self._handles(bulk, messages) if not errors else []
            holders = await sending
        finally:
            if not sending.done():
                sending.cancel()
        if errors:
            raise BulkEnqueueError(errors)
        for position, holder in holders.items():
            handles[position].id = holder
        return handles

    async def send_plain_calls(
        self, task: Definition, options: TaskOptions, calls: Sequence[tuple[Any, ...]]
    ) -> Handles[Any] | None:
        """Send calls of one task in order, without a message for each.

        `None`, and nothing is sent, when that does not suffice: for calls with options that are sent or with arguments
        that need encoding, for a seal, for several partitions, and for more bytes than are kept at once.
        """
        queue = options.queue
        rules = self._options_of(queue)
        if not options.plain or options.after or self._encoder.seal is not None or rules.partitions != 1:
            return None
        with _collector_paused():
            largest = self._encoder.max_payload_bytes
            blobs = plain_calls.envelopes(task, calls, parent_setting(), largest, _KEPT_BYTES)
            if blobs is None:
                return None
            names = ids.new_ids(len(blobs))
            items: list[Item] = list(zip(names, blobs, repeat(0), repeat(0), repeat(None), strict=False))
        partition = Partition(queue)
        send = functools.partial(
            self._broker.enqueue, partition, items, max_length=rules.max_length, room_for=len(items)
        )
        await until_room(options.wait_for_room, send)
        return Handles(self._handle, names, partition, task.signature.result)

    def _encode_all(self, messages: Sequence[Message[Any]]) -> tuple[Bulk, list[tuple[int, TaskQueueError]]]:
        largest, seal, partition_of = self._encoder.max_payload_bytes, self._encoder.seal, self._encoder.partition_of
        # One time for each queue, so that an item that is encoded again stays the same.
        clock = functools.cache(self._encoder.now_ms)
        parent = parent_setting()

        def encode_again(number: int, task_id: str) -> Item:
            return messages[number].encode(largest, seal, task_id=task_id, clock=clock, more_settings=parent)

        bulk = Bulk(encode_again)
        size = 0
        errors: list[tuple[int, TaskQueueError]] = []
        with _collector_paused():
            for number, message in enumerate(messages):
                try:
                    if message.options.after:
                        raise ConfigurationError(
                            f"task {message.task.name!r}: after cannot be used in enqueue_many; "
                            "send it with await task.options(after=…).enqueue(…)"
                        )
                    item = message.encode(largest, seal, clock=clock, more_settings=parent)
                    bulk.partitions.append(partition_of(message, item[ITEM_ID]))
                    size += len(item[ITEM_ENVELOPE])
                    if size <= _KEPT_BYTES:
                        bulk.items.append(item)
                    else:
                        bulk.add_without_envelope(item[ITEM_ID], number)
                except TaskQueueError as error:
                    errors.append((number, error))
        return bulk, errors

    async def _handles(self, bulk: Bulk, messages: Sequence[Message[Any]]) -> list[TaskHandle[Any]]:
        """The handles of all messages, made in chunks between which other work of the loop runs."""
        handles: list[TaskHandle[Any]] = []
        for start in range(0, len(messages), bounds.CHUNK):
            await asyncio.sleep(0)
            with _collector_paused():
                handles += [
                    self._handle(bulk.items[at][ITEM_ID], bulk.partitions[at], messages[at].task.signature.result)
                    for at in range(start, min(start + bounds.CHUNK, len(messages)))
                ]
        return handles

    async def _send(self, bulk: Bulk, refused: set[str], wait_for_room: float) -> dict[int, str]:
        """Send the items of all queues that are not `refused`.

        Returns the positions of items that were not added because another task has their unique key, and its id.
        """
        holders: dict[int, str] = {}
        for partition, positions in bulk.by_partition().items():
            queue = queue_of(partition)
            if queue in refused:
                continue
            max_length = self._options_of(queue).max_length
            for start, items in bulk.parts(positions):
                # The first call makes sure that there is room for all.
                send = functools.partial(
                    self._broker.enqueue, partition, items, max_length=max_length, room_for=len(positions)
                )
                for at, holder in (await until_room(wait_for_room, send)).items():
                    holders[positions[start + at]] = holder
                max_length = 0
        return holders


@contextlib.contextmanager
def _collector_paused() -> Generator[None]:
    """Pause the garbage collector: all objects made here are kept, and scanning them would cost a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
