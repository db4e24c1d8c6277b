"""The producer of one event loop: it sends messages to Redis, simultaneous ones in one call."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from taskfleet import background
from taskfleet.application import Application
from taskfleet.backoff import until_room
from taskfleet.errors import SerializationError, TaskQueueError
from taskfleet.handles import GroupHandle, HandleFactory, TaskHandle
from taskfleet.producer.bulk import BulkSender
from taskfleet.producer.item_encoder import ItemEncoder
from taskfleet.protocol import bounds
from taskfleet.protocol.clock import ClockUnknownError
from taskfleet.protocol.item import ITEM_ID, Item
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.tasks.message import Message

if TYPE_CHECKING:
    from taskfleet.protocol.broker import Broker
    from taskfleet.workflows import WorkflowPlan

_UNPACKABLE = (TypeError, ValueError, OverflowError)

_Outgoing: TypeAlias = "tuple[Item, asyncio.Future[str]]"


class Producer:
    """Sends the tasks of one application. `many` and `plain_calls` send a bulk."""

    def __init__(self, application: Application, broker: Broker, handle: HandleFactory) -> None:
        self._application = application
        self._options_of = application.options_of
        self._broker = broker
        self._handle = handle
        self._encoder = ItemEncoder(application, broker.clock)
        self._outgoing: dict[Partition, list[_Outgoing]] = {}
        self._senders: dict[Partition, asyncio.Task[None]] = {}
        self._busy: set[Partition] = set()
        bulks = BulkSender(application, broker, self._encoder, handle)
        self.many = bulks.send
        self.plain_calls = bulks.send_plain_calls

    async def one(self, message: Message[Any]) -> TaskHandle[Any]:
        """Send one message. Messages of one turn of the event loop share a call to Redis."""
        try:
            item = self._encoder.encode(message)
        except ClockUnknownError:
            item = await self._encoder.by_the_clock(lambda: self._encoder.encode(message))
        options = message.options
        rules = self._options_of(options.queue)
        partition: Partition = options.queue  # type: ignore[assignment]  # Partition(queue) would take longer
        if rules.partitions != 1:
            partition = self._encoder.partition_of(message, item[ITEM_ID])
        if options.wait_for_room:
            send = functools.partial(self._send, partition, item, rules.max_length)
            task_id = await until_room(options.wait_for_room, send)
        else:
            task_id = await self._send(partition, item, rules.max_length)
        return self._handle(task_id, partition, message.task.signature.result)

    async def workflow(self, plan: WorkflowPlan) -> TaskHandle[Any] | GroupHandle:
        """Send a workflow."""
        # Imported only here: most workers send none.
        from taskfleet.producer.workflow_sender import WorkflowSender

        return await WorkflowSender(self._application, self._broker, self._encoder, self._handle).send(plan)

    async def _send(self, partition: Partition, item: Item, max_length: int) -> str:
        """Send an item at once, or with the others that gather while a call to its partition is in progress.

        Returns the id of the task in the queue, which is another task if that has the unique key and keeps it.
        """
        if partition in self._busy:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._outgoing.setdefault(partition, []).append((item, future))
            return await future
        self._busy.add(partition)
        try:
            holders = await self._broker.enqueue(partition, (item,), max_length=max_length)
            return holders.get(0, item[ITEM_ID]) if holders else item[ITEM_ID]
        except TaskQueueError:
            raise
        except _UNPACKABLE as error:
            raise _not_sent(partition, error) from error
        finally:
            # Nobody waits for a message whose call was cancelled. At the end of the loop all are, and a sender begun
            # then would outlive the loop.
            if partition in self._outgoing and (waiting := _awaited(self._outgoing.pop(partition))):
                self._outgoing[partition] = waiting
                self._senders[partition] = background.start(self._send_outgoing(partition))
            else:
                self._busy.discard(partition)

    async def _send_outgoing(self, partition: Partition) -> None:
        try:
            while batch := self._outgoing.pop(partition, None):
                max_length = self._options_of(partition).max_length
                if max_length:
                    # One call for each, so that a full queue refuses only the messages beyond its limit.
                    for pair in batch:
                        await self._send_batch(partition, [pair], max_length)
                else:
                    for start, end, _ in bounds.windows(batch, _outgoing_bytes):
                        await self._send_batch(partition, batch[start:end], 0)
        finally:
            self._busy.discard(partition)
            self._senders.pop(partition, None)

    async def _send_batch(self, partition: Partition, batch: Sequence[_Outgoing], max_length: int) -> None:
        try:
            items = [item for item, _ in batch]
            holders = await self._broker.enqueue(partition, items, max_length=max_length)
        except BaseException as cause:
            error: BaseException = cause
            if isinstance(cause, _UNPACKABLE) and not isinstance(cause, TaskQueueError):
                error = _not_sent(partition, cause)
            if len(batch) > 1 and isinstance(error, SerializationError):
                # One of them cannot be encoded, so none was sent. Each is sent alone, so that only that one fails.
                for pair in batch:
                    await self._send_batch(partition, [pair], max_length)
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(cause, Exception):
                raise
        else:
            for position, (item, future) in enumerate(batch):
                if not future.done():
                    future.set_result(holders.get(position, item[ITEM_ID]) if holders else item[ITEM_ID])


def _not_sent(partition: Partition, cause: BaseException) -> SerializationError:
    """All values were checked before. Such an error is still reported as an error of Taskfleet, in one line."""
    error = SerializationError(f"queue {queue_of(partition)!r}: a task cannot be put into a message: {cause}")
    error.__cause__ = cause
    return error


def _awaited(outgoing: list[_Outgoing]) -> list[_Outgoing]:
    """Those whose callers still wait."""
    return [each for each in outgoing if not each[1].done()]


def _outgoing_bytes(outgoing: _Outgoing) -> int:
    """The size of an item.

    An item that Redis may refuse for its size counts as a whole call, so that it is sent alone.
    """
    size = bounds.item_bytes(outgoing[0])
    return size if size <= bounds.SURE_BYTES else bounds.CALL_BYTES
