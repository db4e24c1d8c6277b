"""Read access to queues in Redis: figures, workers, dead letters, and single tasks.

The records of figures are imported by the methods that make them: a worker reads none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskfleet import foreign
from taskfleet.errors import ReplyTooLargeError, TaskQueueError
from taskfleet.protocol import bounds, dead_record
from taskfleet.protocol.heartbeat import FIELDS
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.protocol.status import TaskStatus
from taskfleet.redis import replies
from taskfleet.redis.calls import tasks
from taskfleet.redis.connection import RedisClient
from taskfleet.redis.queue_calls import QueueCalls

if TYPE_CHECKING:
    from taskfleet.protocol.figures import Figures, Horizons
    from taskfleet.protocol.stats import QueueStats, ServerMemory
    from taskfleet.protocol.worker_info import WorkerInfo

_LETTERS_TOGETHER = 100
_FIGURES_TOGETHER = 256
_WORKERS_TOGETHER = 64
_MOST_WORKERS = 10_000


class Views(QueueCalls):
    """Reading operations; `status` may also announce the end of a task."""

    def __init__(self, client: RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        super().__init__(client, prefix, seal)
        self._told: dict[str, QueueStats] = {}  # the last figures of each queue

    async def status(self, partition: Partition, task_id: str, *, announce: bool = False) -> TaskStatus:
        """The state of a task; with `announce` its end is published on the done channel."""
        return await self.call(tasks.status(self.keys_of(partition), task_id, announce=announce))

    async def progress(self, partition: Partition, task_id: str) -> bytes | None:
        """The stamped report of a task that has not ended."""
        key = self.keys_of(partition).progress
        record: bytes | None = await self.patiently(lambda: self.client.redis.hget(key, task_id))
        return record

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues, each the sum of its partitions."""
        stats, failures = await self._stats(dict.fromkeys(queues, (horizon_ms, 0)))
        for error in failures.values():
            raise error
        return stats

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures:
        """The figures of all these queues, each with its horizons, and all workers, or none."""
        from taskfleet.protocol.figures import Figures

        skipped = self.skipped.counts.total()
        stats, failures = await self._stats(horizons)
        beats = await self.workers() if workers else []
        for queue, found in stats.items():
            before = self._told.get(queue)
            stats[queue] = self._told[queue] = found.not_behind(before) if before is not None else found
        return Figures(stats, beats, self.skipped.counts.total() - skipped, failures)

    async def _stats(self, horizons: Mapping[str, Horizons]) -> tuple[dict[str, QueueStats], dict[str, TaskQueueError]]:
        """The figures of the queues that can be read, and the errors of the others."""
        from taskfleet.protocol.stats import QueueStats
        from taskfleet.redis.calls import operations

        if not horizons:
            return {}, {}
        listed = {partition for partition in await self.partitions() if queue_of(partition) in horizons}
        partitions = sorted(listed | {Partition(queue) for queue in horizons})
        calls = [
            operations.stats(self.keys_of(partition), horizon_ms=horizon_ms, soon_ms=soon_ms)
            for partition in partitions
            for horizon_ms, soon_ms in [horizons[queue_of(partition)]]
        ]
        figures: list[QueueStats | TaskQueueError] = []
        for start in range(0, len(calls), _FIGURES_TOGETHER):
            figures += await self.call_each(calls[start : start + _FIGURES_TOGETHER])
        parts: dict[str, list[QueueStats]] = {queue: [] for queue in horizons}
        failures: dict[str, TaskQueueError] = {}
        for partition, stats in zip(partitions, figures, strict=True):
            queue = queue_of(partition)
            if not isinstance(stats, TaskQueueError):
                parts[queue].append(stats)
            else:
                failures.setdefault(queue, stats)
        return {queue: QueueStats.total(found) for queue, found in parts.items() if queue not in failures}, failures

    async def workers(self) -> list[WorkerInfo]:
        """The workers whose heartbeat has not expired."""
        found: list[WorkerInfo] = await self.patiently(self._read_workers)
        return found

    async def _read_workers(self) -> list[WorkerInfo]:
        # Only the latest, more than any fleet has.
        entries = await self.client.redis.zrange(self.fleet.workers, -_MOST_WORKERS, -1, withscores=True)
        found: list[WorkerInfo] = []
        for start in range(0, len(entries), _WORKERS_TOGETHER):
            some = entries[start : start + _WORKERS_TOGETHER]
            now_ms, hashes = await self._heartbeats([worker_id for worker_id, _ in some])
            for (worker_id, beat_ms), values in zip(some, hashes, strict=True):
                info = self._worker_of(worker_id, values, beat_ms, now_ms)
                if info is not None:
                    found.append(info)
        return found

    async def _heartbeats(self, worker_ids: Sequence[bytes]) -> tuple[float, list[Any]]:
        """(now in ms, the fields of each). A heartbeat that is too large, or no hash, does not affect the others."""
        pipeline = self.client.redis.pipeline(transaction=False)
        pipeline.time()
        for worker_id in worker_ids:
            pipeline.hmget(self.fleet.worker(foreign.text(worker_id)), FIELDS)
        try:
            (seconds, micros), *hashes = await pipeline.execute(raise_on_error=False)
        except replies.TooLongError as error:
            if len(worker_ids) == 1:
                return 0.0, [error]
            middle = len(worker_ids) // 2
            first_ms, first = await self._heartbeats(worker_ids[:middle])
            now_ms, rest = await self._heartbeats(worker_ids[middle:])
            return max(first_ms, now_ms), first + rest
        return seconds * 1000 + micros / 1000, hashes

    def _worker_of(self, worker_id: bytes, values: Any, beat_ms: float, now_ms: float) -> WorkerInfo | None:
        if isinstance(values, list) and not any(values):
            return None  # the heartbeat has expired
        try:
            if not isinstance(values, list):
                raise foreign.ForeignError(str(values))
            from taskfleet.protocol.worker_info import WorkerInfo

            return WorkerInfo.of_values(worker_id, values, beat_ms, now_ms)
        except foreign.ForeignError as error:
            self.skipped.add("heartbeat", worker_id, error)
            return None

    async def memory(self) -> list[ServerMemory]:
        """How full each server is that holds keys. `CallRefusedError` when our user may not ask."""

        async def ask() -> list[ServerMemory]:
            return [_memory_of(client, await client.info("memory")) for client in await self.client.masters()]

        found: list[ServerMemory] = await self.patiently(ask)
        return found

    async def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> AsyncIterator[tuple[str, bytes]]:
        """(id, packed dead letter), the oldest first in each partition.

        A letter that exceeds a reply is replaced by a note.
        """
        for partition in await self.partitions(queue):
            names = self.keys_of(partition)
            count = await self.patiently(lambda key=names.dead: self.client.redis.zcard(key))
            for first in range(offset, min(count, offset + limit), _LETTERS_TOGETHER):
                last = min(first + _LETTERS_TOGETHER, offset + limit) - 1
                ids: list[bytes] = await self.patiently(
                    lambda key=names.dead, first=first, last=last: self.client.redis.zrange(key, first, last)
                )
                async for task_id, letter in self._letters(names.letter, ids):
                    yield foreign.text(task_id), letter
            limit -= max(0, min(count - offset, limit))
            offset = max(0, offset - count)

    async def _letters(self, key: str, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """The stored letters of `ids`, in calls of limited size."""
        at, together = 0, 8
        while at < len(ids):
            some = ids[at : at + together]
            try:
                letters = await self.patiently(lambda some=some: self.client.redis.hmget(key, some))
            except ReplyTooLargeError:
                together = len(some) // 2
                if not together:
                    most = self.client.options.reply_bytes
                    yield some[0], dead_record.unreadable_letter(f"it has more than the {most} bytes of one reply here")
                    at, together = at + 1, 1
                continue
            at += len(some)
            for task_id, letter in zip(some, letters, strict=True):
                if letter is not None:
                    yield task_id, letter
            together = max(1, bounds.CALL_BYTES // max(len(letter or b"-") for letter in letters))


def _memory_of(client: Any, info: dict[str, Any]) -> ServerMemory:
    from taskfleet.protocol.stats import ServerMemory

    where = client.connection_pool.connection_kwargs
    address = f"{where['host']}:{where.get('port')}" if where.get("host") else str(where.get("path", ""))
    used, most = (value if isinstance(value := info.get(name), int) else 0 for name in ("used_memory", "maxmemory"))
    return ServerMemory(address, max(0, used), max(0, most))
