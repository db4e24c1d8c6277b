"""Tasks that wait for other tasks, in Redis: the links between them, and the signals about their ends."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet import foreign
from taskfleet.errors import ReplyTooLargeError
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.item import Edge
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.status import TaskStatus
from taskfleet.redis.calls import tasks, workflows
from taskfleet.redis.queue_calls import QueueCalls

_SIGNALS_TOGETHER = 16


class Signalling(QueueCalls):
    """Links, signals, and the operations that cause signals."""

    async def cancel(self, partition: Partition, task_id: str, record: bytes, ttl_ms: int, reason: str) -> bool:
        """Cancel a task; returns whether its state changed."""
        call = tasks.cancel(self.keys_of(partition), self.fleet, task_id, record=record, ttl_ms=ttl_ms, reason=reason)
        reply = await self.call(call)
        if reply.signals:
            await self.relay(partition)
        return reply.changed

    async def holder(self, partition: Partition, unique_key: str) -> str | None:
        """The task that has a unique key at the moment."""
        names = self.keys_of(partition)
        found = await self.patiently(lambda: self.client.redis.hget(names.unique, unique_key))
        lives = found and await self.patiently(lambda: self.client.redis.hexists(names.task, found))
        return foreign.text(found) if lives else None

    async def link(self, partition: Partition, task_id: str, edges: Sequence[Edge]) -> TaskStatus:
        """Let at most `MOST_EDGES` tasks wait for another. The state is linked, unknown, dead or ended."""
        return await self.call(workflows.link(self.keys_of(partition), task_id, edges))

    async def confirm(self, partition: Partition, ids: Sequence[str]) -> None:
        """Confirm that all parts of a workflow are in Redis, so that none of them is dropped any more."""
        blocked = self.keys_of(partition).blocked
        for start in range(0, len(ids), CHUNK):
            scores = dict.fromkeys(ids[start : start + CHUNK], float("inf"))
            await self.patiently(lambda scores=scores: self.client.redis.zadd(blocked, scores, xx=True))

    async def signal(self, signal: Signal) -> int:
        """Deliver one signal; returns the number of signals in the outbox of the receiving partition."""
        record, told = signal.cancellation(self.seal)
        names = self.keys_of(signal.partition)
        return await self.call(workflows.resolve(names, self.fleet, signal, cancelled_record=record, told=told))

    async def relay(self, partition: Partition) -> None:
        """Deliver the signals in a partition's outbox, and those that they cause.

        Several programs may do so at once.
        """
        waiting = [partition]
        while waiting:
            source = waiting.pop()
            while True:
                packed = await self._next_signals(source)
                for entry in packed:
                    signal = self._signal_of(source, entry)
                    if signal is not None and await self.signal(signal):
                        receiver = signal.partition
                        if receiver != source and receiver not in waiting:
                            waiting.append(receiver)
                    # A signal is removed after its delivery. If the relay dies here, it is delivered again, which
                    # changes nothing.
                    outbox = self.keys_of(source).outbox
                    await self.patiently(lambda o=outbox, e=entry: self.client.redis.lrem(o, 1, e))
                if not packed and not await self._drain(source):
                    break

    async def _next_signals(self, partition: Partition) -> list[bytes]:
        """The first signals of the outbox, as many as fit into one reply."""
        outbox, together = self.keys_of(partition).outbox, _SIGNALS_TOGETHER
        while True:
            try:
                found: list[bytes] = await self.patiently(
                    lambda last=together - 1: self.client.redis.lrange(outbox, 0, last)
                )
                return found
            except ReplyTooLargeError:
                if together == 1:
                    raise
                together //= 2

    async def _drain(self, partition: Partition) -> int:
        """Continue work that was too much for one call; returns the amount that is left."""
        return await self.call(workflows.drain(self.keys_of(partition), self.fleet, partition))

    def _signal_of(self, partition: Partition, entry: bytes) -> Signal | None:
        """A signal in an outbox. An invalid entry gives `None`, since it must not block those behind it."""
        try:
            return Signal.of_packed(entry, partition)
        except Exception as error:  # damaged bytes can raise anything
            self.skipped.add("signal", entry[:100], error)
            return None
