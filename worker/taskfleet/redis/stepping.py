"""The calls of a worker on queues in Redis: steps, which record outcomes and claim tasks, and related calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskfleet import foreign, showing
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.claim import HeldTask, StepReply, Takeover
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.progress_report import ProgressReport
from taskfleet.redis import replies
from taskfleet.redis.calls import tasks
from taskfleet.redis.calls.tasks import OutcomeBatch, StepCallReply
from taskfleet.redis.queue_calls import QueueCalls

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

logger = showing.logger("taskfleet")

_DELIVERY = re.compile(rb"\d{1,15}")
_PAGE_BYTES = 1_000_000
_PAGED_BYTES = 128 * 1_048_576  # for all results that one task takes, besides twice the limit of a reply
_WAKE_TTL_MS = 60_000
_LOOKED_AT_TOGETHER = 256  # partitions


class Stepping(QueueCalls):
    """The calls of a worker. Errors of Redis are raised as they are, since the worker sends its calls again."""

    async def step(
        self, partition: Partition, options: QueueOptions, incarnation: str, slots: int, outcomes: Sequence[Outcome]
    ) -> StepReply:
        """Record outcomes and claim up to `slots` tasks."""
        names, left = self.keys_of(partition), OutcomeBatch(outcomes)
        stale, unknown, taken_over = 0, 0, list[Takeover]()
        while True:
            call = tasks.step(names, partition, options, incarnation=incarnation, slots=slots, outcomes=left)
            answer = await self.call_once(call)
            reply = await self._complete(partition, answer)
            if answer.recorded is None:
                break
            # Too much for one call: further calls record the rest, and the last of them claims.
            left.recorded(*answer.recorded)
            stale += reply.stale
            unknown += reply.unknown
            taken_over += reply.taken_over
        if stale or taken_over:
            reply = reply._replace(
                stale=stale + reply.stale,
                unknown=unknown + reply.unknown,
                taken_over=[*taken_over, *reply.taken_over],
            )
        return reply

    async def step_when_called(
        self,
        partition: Partition,
        options: QueueOptions,
        incarnation: str,
        slots: int,
        timeout: float,
        take: Callable[[StepReply], None],
    ) -> None:
        """Wait at most `timeout` s until this partition calls for a worker, and claim tasks.

        The claim follows the notification inside Redis, without a round trip between them. `take` gets the reply where
        it arrives, without a turn of the event loop between them.
        """
        names = self.keys_of(partition)
        call = tasks.step(names, partition, options, incarnation=incarnation, slots=slots)
        incomplete: list[StepCallReply] = []

        def arrived(reply: Any) -> None:
            answer = call.read(reply)
            if answer.paged:
                incomplete.append(answer)
            else:
                self.clock.hear(partition, answer.now_ms)
                take(answer.reply)

        await self.client.pop_and_run(names.wake, timeout, call.script, call.keys, call.args, arrived)
        for answer in incomplete:
            take(await self._complete(partition, answer))

    async def _complete(self, partition: Partition, answer: StepCallReply) -> StepReply:
        """The reply with the results that were too many for the call: lua/queue/inputs.lua."""
        self.clock.hear(partition, answer.now_ms)
        reply = answer.reply
        for at, carried in answer.paged:
            _, task_id, blob, attempt, delivery, _, ready_ms = reply.claims[at]
            pages = await self._pages(partition, task_id, carried)
            reply.claims[at] = (partition, task_id, blob, attempt, delivery, pages, ready_ms)
        return reply

    async def _pages(self, partition: Partition, task_id: str, carried: int) -> list[bytes]:
        gather, values = self.keys_of(partition).gather, list[bytes]()
        page, bytes_left = 1, _PAGED_BYTES + 2 * self.client.options.reply_bytes
        while len(values) < carried:
            fields = [f"{task_id}:{at}" for at in range(len(values), min(len(values) + page, carried))]
            found = await self.client.redis.hmget(gather, fields)
            bytes_left -= sum(len(value or b"") for value in found)
            if None in found or bytes_left < 0:
                # Any program may have written the number of results, so no time or memory is spent on the number alone.
                problem = "are too large together" if bytes_left < 0 else "are not there"
                logger.warning("task %s of queue %s: the results that it waits for %s", task_id, partition, problem)
                return [b""]
            values += found
            # The number that fits into a page, judged by the size of the last results.
            size = max(1, sum(map(len, found)) // len(found))
            page = max(1, min(2 * page, CHUNK, _PAGE_BYTES // size))
        return values

    async def report(self, partition: Partition, incarnation: str, reports: Sequence[ProgressReport]) -> set[str]:
        """Store reports of running tasks; returns the ids of tasks that were taken from this incarnation.

        A failed report is no loss, since later reports replace it.
        """
        return set(await self.call_once(tasks.progress(self.keys_of(partition), incarnation, reports)))

    async def owned(self, partition: Partition, incarnation: str) -> list[HeldTask]:
        """Every task that this incarnation has claimed, even if the reply to its claim was lost."""
        found: list[HeldTask] = []
        prefix = incarnation.encode() + b":"
        async for task_id, token in self.client.redis.hscan_iter(self.keys_of(partition).owner, count=CHUNK):
            if token.startswith(prefix) and _DELIVERY.fullmatch(delivery := token[len(prefix) :]):
                found.append((foreign.text(task_id), int(delivery)))
        return found

    async def unreadable(self, partition: Partition, ids: Sequence[str]) -> set[str]:
        """The tasks among `ids` whose payload, or whose results to take, exceed the limit of a reply."""
        names = self.keys_of(partition)
        found: set[str] = set()
        for task_id in ids:
            try:
                for key in (names.task, names.input):
                    await self.client.redis.hget(key, task_id)
            except replies.TooLongError:
                found.add(task_id)
        return found

    async def wait_for_work(self, partitions: Sequence[Partition], timeout: float) -> Partition | None:
        """Block until one of these partitions calls for a worker; `None` after `timeout` s.

        With `one_slot_only`, `partitions` has one element.
        """
        wakes = {self.keys_of(partition).wake: partition for partition in partitions}
        popped = await self.client.blocking_pop(list(wakes), timeout)
        if popped is None:
            return None
        wake, _ = popped
        return wakes[wake]

    async def occupied(self, partitions: Sequence[Partition]) -> list[Partition]:
        """Those of the partitions in which a worker may find something to do, now or later.

        A step would find the same, with a dozen commands for each empty partition in place of one.
        """
        found: list[Partition] = []
        for start in range(0, len(partitions), _LOOKED_AT_TOGETHER):
            some = partitions[start : start + _LOOKED_AT_TOGETHER]
            pipeline = self.client.redis.pipeline(transaction=False)
            for partition in some:
                pipeline.exists(*self.keys_of(partition).work)
            counts = await pipeline.execute()
            found += [partition for partition, count in zip(some, counts, strict=True) if count]
        return found

    async def call_another(self, partition: Partition) -> None:
        """Pass a notification on to the next waiting worker."""
        wake = self.keys_of(partition).wake
        await self.client.redis.rpush(wake, 1)
        await self.client.redis.pexpire(wake, _WAKE_TTL_MS)

    async def deregister(self, worker_id: str) -> None:
        """Delete the record of a worker that has ended."""
        await self.client.redis.zrem(self.fleet.workers, worker_id)
        await self.client.redis.delete(self.fleet.worker(worker_id))
