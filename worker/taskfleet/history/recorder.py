"""Records the figures of all queues at even distances. Of all processes that would, one does."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from taskfleet import showing
from taskfleet.errors import TaskQueueError
from taskfleet.protocol import rings
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.rings import QUEUE_RINGS, STEP_SECONDS
from taskfleet.protocol.stats import QueueStats
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import history as calls
from taskfleet.redis.calls import operations
from taskfleet.redis.redis_errors import CallRefusedError

logger = showing.logger("taskfleet.history")

_TOGETHER = 50  # partitions in one round trip
_HOLD_SECONDS = 40.0  # two turns, and the time of a call
_MARGIN = 0.02  # of a step: a turn that begins a little early must not fall into the step before
_GIVE_WAY_SECONDS = 1.0


class Recorder:
    """Records the figures of all queues of one Redis and prefix, for as long as `run` runs.

    Any number of processes may run one. A key with a time to live says which of them records, so that the others
    follow when it ends. Of a thousand queues and more, it reads and writes at most `partitions_per_second`; a turn then
    takes longer than a step, and the distance of the points grows. It costs Redis two calls a partition and turn.
    """

    def __init__(
        self,
        broker: RedisBroker,
        *,
        partitions_per_second: float = 100.0,
        step_seconds: float = STEP_SECONDS,
        hold_seconds: float = _HOLD_SECONDS,
    ) -> None:
        """`step_seconds`: of one turn; `hold_seconds`: after which another recorder takes the place of a silent one."""
        self._broker = broker
        self._rate = partitions_per_second
        self._step = step_seconds
        self._hold = hold_seconds
        self._name = secrets.token_hex(8)
        self._asked = float("-inf")
        self._failures = 0
        self._refused = 0
        self.records = False
        """Whether this one is the one that records."""
        self.turns = 0
        """Turns in which this one has recorded."""
        self.skipped: Mapping[str, TaskQueueError] = {}
        """The queues that could not be recorded in the last turn."""

    async def run(self) -> None:
        """Run until cancelled. Whatever Redis answers, it goes on; the log tells of the 1st, 2nd, 4th, … error."""
        try:
            while True:
                pause = self._step
                try:
                    pause = await self._turn()
                    self._failures = 0
                except (TaskQueueError, OSError) as error:
                    self.records = False
                    self._failures += 1
                    if _is_told(self._failures):
                        logger.warning("figures over time are not recorded: %s (%d in a row)", error, self._failures)
                await asyncio.sleep(pause)
        finally:
            await self._give_way()

    async def _turn(self) -> float:
        """One turn, if this is the one that records. Returns the seconds until the next."""
        now_ms = await self._elect()
        began = time.monotonic()
        if self.records:
            self.skipped = await self.record()
            self.turns += 1
            self._tell()
        # Each step of Redis' clock has one turn, a moment after its beginning, whatever the clock of this machine says.
        late = now_ms / 1000 + time.monotonic() - began
        return self._step - (late - _MARGIN * self._step) % self._step

    async def _elect(self) -> int:
        self._asked = time.monotonic()
        asked = calls.elect(self._broker.fleet, self._name, ttl_ms=max(1, round(self._hold * 1000)))
        self.records, now_ms = await self._broker.call(asked)
        return now_ms

    async def _still_records(self) -> bool:
        await self._elect()
        return self.records

    async def record(self) -> dict[str, TaskQueueError]:
        """Record the figures of all queues once, whoever else may. Returns the queues that could not be recorded."""
        skipped: dict[str, TaskQueueError] = {}
        began, done = time.monotonic(), 0
        for some in _chunks(await self._broker.partitions()):
            if done:
                await asyncio.sleep(max(0.0, began + done / self._rate - time.monotonic()))
            if self.records and time.monotonic() - self._asked > self._hold / 3 and not await self._still_records():
                return skipped  # another one has taken over, while this one stood still
            stats, unread = await self._read(some)
            skipped |= unread | await self._write(stats)
            done += sum(map(len, some.values()))
        return skipped

    async def _read(
        self, queues: Mapping[str, Sequence[Partition]]
    ) -> tuple[dict[str, QueueStats], dict[str, TaskQueueError]]:
        asked = [partition for some in queues.values() for partition in some]
        replies = await self._broker.call_each(
            [operations.stats(self._broker.keys_of(partition), horizon_ms=0) for partition in asked]
        )
        parts: dict[str, list[QueueStats]] = defaultdict(list)
        unread: dict[str, TaskQueueError] = {}
        for partition, reply in zip(asked, replies, strict=True):
            if isinstance(reply, TaskQueueError):
                unread[queue_of(partition)] = reply
            else:
                parts[queue_of(partition)].append(reply)
        return {queue: QueueStats.total(found) for queue, found in parts.items() if queue not in unread}, unread

    async def _write(self, stats: Mapping[str, QueueStats]) -> dict[str, TaskQueueError]:
        writes = [
            calls.record(
                self._broker.keys_of(queue).history,
                QUEUE_RINGS,
                rings.gauges_of(figures),
                rings.totals_of(figures),
                # A queue without any figure has had no task, or was purged in this moment: it gets no rings.
                makes=any(rings.gauges_of(figures) + rings.totals_of(figures)),
            )
            for queue, figures in stats.items()
        ]
        replies = await self._broker.call_each(writes) if writes else []
        failed: dict[str, TaskQueueError] = {}
        for queue, reply in zip(stats, replies, strict=True):
            if isinstance(reply, TaskQueueError):
                failed[queue] = reply
            elif not reply:
                key = self._broker.keys_of(queue).history
                failed[queue] = CallRefusedError(
                    f"key {key!r} holds a text of another program, where a queue's history belongs: delete it"
                )
        return failed

    def _tell(self) -> None:
        """Log, now and then, that some queues cannot be recorded."""
        if not self.skipped:
            self._refused = 0
            return
        self._refused += 1
        if _is_told(self._refused):
            queue, error = next(iter(self.skipped.items()))
            logger.warning(
                "%d queues are not recorded, the first of them %s: %s (%d turns)",
                len(self.skipped),
                queue,
                error,
                self._refused,
            )

    async def _give_way(self) -> None:
        """Let another one follow at once. Without a reply it follows when this one's time is over."""
        if self.records:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GIVE_WAY_SECONDS):
                    await self._broker.call(calls.elect(self._broker.fleet, self._name, ttl_ms=0))
        self.records = False


def _chunks(partitions: Sequence[Partition]) -> Iterator[dict[str, list[Partition]]]:
    """The partitions by queue, about `_TOGETHER` at a time; all of one queue are together."""
    queues: dict[str, list[Partition]] = defaultdict(list)
    for partition in partitions:
        queues[queue_of(partition)].append(partition)
    chunk: dict[str, list[Partition]] = {}
    count = 0
    for queue, some in queues.items():
        if count and count + len(some) > _TOGETHER:
            yield chunk
            chunk, count = {}, 0
        chunk[queue] = some
        count += len(some)
    if chunk:
        yield chunk


def _is_told(count: int) -> bool:
    return count & (count - 1) == 0
