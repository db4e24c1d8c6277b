"""Adds tasks to queues in Redis, in calls of limited size that can safely be sent twice."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence

from redis import exceptions as redis_exceptions

from taskfleet.errors import PayloadTooLargeError
from taskfleet.protocol import bounds
from taskfleet.protocol.item import ITEM_EXTRAS, Item, queue_full
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.replacing import enqueue_replacing
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.redis.calls import tasks
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.calls.tasks import AT_ONCE_BYTES, AtOnce, EnqueueReply
from taskfleet.redis.connection import RedisClient
from taskfleet.redis.redis_errors import CallTooLargeError
from taskfleet.redis.signalling import Signalling

_CALLS_TOGETHER = 8
_KNOWN_SECONDS = 60.0  # then a partition is listed again, since Redis may have lost its data


class EnqueueSender:
    """The name and number of an enqueue call, by which Redis recognizes a call that was sent twice.

    A sender is used by one call at a time, with increasing numbers.
    """

    __slots__ = ("at_once", "name", "number")

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.at_once: AtOnce | None = None


def _next_sender(free: list[EnqueueSender]) -> EnqueueSender:
    """One that no other call is using, with its next number."""
    sender = free.pop() if free else EnqueueSender(secrets.token_urlsafe(6))
    sender.number += 1
    return sender


class Enqueueing(Signalling):
    """Adds tasks. Other tasks may wait for a task that is replaced; they are notified."""

    def __init__(self, client: RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        super().__init__(client, prefix, seal)
        self._listed_until: dict[str, float] = {}
        self._free_senders: dict[tuple[int, str], list[EnqueueSender]] = {}

    async def enqueue(
        self, partition: Partition, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        """Add tasks in order, all or none if they would exceed `max_length`.

        With `room_for`, there must be room for that number of tasks, of which these are the first. Returns the
        positions that were not added because another task has their unique key, each with the id of that task.

        Errors: `QueueFullError`, and `PayloadTooLargeError` for a task that Redis refuses for its size.
        """
        now = time.monotonic()
        if now >= self._listed_until.get(partition, 0.0):
            await self.patiently(lambda: self._list(partition))
            self._listed_until[partition] = now + _KNOWN_SECONDS
        room_for = room_for or len(items)
        if len(items) == 1:
            if not max_length and self._permit is None:
                task_id, envelope, delay_ms, eta_ms, extras = items[0]
                if extras is None and not delay_ms and not eta_ms and len(envelope) <= AT_ONCE_BYTES:
                    return await self._enqueue_at_once(partition, items, task_id, envelope)
            return await self._enqueue_part(partition, items, max_length, room_for, bounds.item_bytes(items[0]))
        if not items:
            return {}
        # The first call makes sure that there is room for all.
        (start, end, size), *parts = bounds.windows(items, bounds.item_bytes)
        holders = await self._enqueue_part(partition, items[start:end], max_length, room_for, size)
        if parts and all(item[ITEM_EXTRAS] is None for item in items):
            await self._enqueue_plain_parts(partition, items, parts)
        else:
            for start, end, size in parts:
                found = await self._enqueue_part(partition, items[start:end], 0, end - start, size)
                holders |= {start + position: holder for position, holder in found.items()}
        return holders

    async def _enqueue_at_once(
        self, partition: Partition, items: Sequence[Item], task_id: str, envelope: bytes
    ) -> dict[int, str]:
        """The usual call, by the shortest way; whatever goes wrong, the ordinary way sends the same call again."""
        names, free = self.keys_of(partition), self._free(partition)
        sender = _next_sender(free)
        refusal: Exception | None = None
        lines = self.client.lines_at(names.task)
        if lines is not None:
            if sender.at_once is None:
                sender.at_once = AtOnce(names, self.fleet, partition, sender.name)
            try:
                (reply,) = await lines.exchange(sender.at_once.packed(sender.number, task_id, envelope), 1)
                if type(reply) is list:
                    free.append(sender)
                    return {}
                if isinstance(reply, Exception) and not isinstance(reply, redis_exceptions.NoScriptError):
                    refusal = reply
            except (redis_exceptions.RedisError, OSError):
                pass
        call = self._enqueue_call(partition, items, 0, 1, sender)

        async def again() -> None:
            nonlocal refusal
            if refusal is not None:
                # Sent again at once, a call that has failed half-way would be taken for one that was sent twice.
                error, refusal = refusal, None
                raise error
            await self.client.run(call.script, call.keys, call.args)

        await self.patiently(again, bounds.item_bytes(items[0]), call.keys)
        free.append(sender)
        return {}

    async def _list(self, partition: Partition) -> None:
        if self.introduction.is_due:
            await self.introduction.beside(self.fleet.queues, partition)
        else:
            await self.client.redis.sadd(self.fleet.queues, partition)

    def list_again(self) -> None:
        """List the partitions again with the next calls, since Redis may have lost the list."""
        self._listed_until.clear()

    async def _enqueue_plain_parts(
        self, partition: Partition, items: Sequence[Item], parts: Sequence[tuple[int, int, int]]
    ) -> None:
        """Several calls in one message, all so small that Redis refuses none for its size."""
        together: list[Sequence[Item]] = []
        bytes_together = 0
        for start, end, size in parts:
            if together and (len(together) == _CALLS_TOGETHER or bytes_together + size > bounds.CALL_BYTES):
                await self._enqueue_plain(partition, together)
                together, bytes_together = [], 0
            if size > bounds.SURE_BYTES:
                await self._enqueue_part(partition, items[start:end], 0, end - start, size)
            else:
                together.append(items[start:end])
                bytes_together += size
        if together:
            await self._enqueue_plain(partition, together)

    async def _enqueue_part(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        """One call, or more when Redis refuses it for its size, since its limits may be lower than usual."""
        try:
            return await self._enqueue_chunk(partition, items, max_length, total, size)
        except CallTooLargeError as error:
            if len(items) == 1:
                raise PayloadTooLargeError(
                    f"queue {partition!r}: {error}; store the data elsewhere and pass its address, or raise these "
                    "limits"
                ) from None
        middle = len(items) // 2
        holders = await self._enqueue_part(partition, items[:middle], max_length, total, size // 2)
        found = await self._enqueue_part(partition, items[middle:], 0, len(items) - middle, size // 2)
        return holders | {middle + position: holder for position, holder in found.items()}

    async def _enqueue_plain(self, partition: Partition, chunks: Sequence[Sequence[Item]]) -> None:
        """Several calls in one message: Redis runs them without waiting for the client to read a reply.

        Each call has its own sender. A call may be refused (the script was lost, a replica was missing) and be sent
        again when the calls behind it have long arrived; it must not pass for a late copy of them.
        """
        senders = [_next_sender(self._free(partition)) for _ in chunks]
        await self.call_many(
            [
                self._enqueue_call(partition, chunk, 0, len(chunk), sender)
                for chunk, sender in zip(chunks, senders, strict=True)
            ]
        )
        self._free(partition).extend(senders)

    async def _enqueue_chunk(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        """One call, and further calls while tasks remain to be replaced."""
        if len(items) == 1 and items[0][ITEM_EXTRAS] is None:
            return await self._enqueue_once(partition, items, max_length, total, size)

        async def enqueue(some: Sequence[Item]) -> dict[int, str]:
            return await self._enqueue_once(partition, some, max_length, total if some is items else len(some), size)

        return await enqueue_replacing(self.seal, partition, items, enqueue)

    async def _enqueue_once(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        sender = _next_sender(self._free(partition))
        reply = await self.call(self._enqueue_call(partition, items, max_length, total, sender), size)
        self._free(partition).append(sender)
        if reply.waiting is not None:
            raise queue_full(partition, reply.waiting, max_length)
        if reply.signals:
            await self.relay(partition)  # other tasks were waiting for a task that was replaced
        return reply.holders

    def _enqueue_call(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int, sender: EnqueueSender
    ) -> ScriptCall[EnqueueReply]:
        return tasks.enqueue(
            self.keys_of(partition), self.fleet, partition, items,
            max_length=max_length, total=total, sender=sender.name, number=sender.number,
        )  # fmt: skip

    def _free(self, partition: Partition) -> list[EnqueueSender]:
        # A forked process must not continue to count under the names of its parent.
        return self._free_senders.setdefault((os.getpid(), partition), [])
