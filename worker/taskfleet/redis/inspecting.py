"""Read access to single tasks and pages of them, in calls of limited size.

The calls of scripts are imported by the methods that make them: a worker makes none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgpack

from taskfleet import foreign
from taskfleet.errors import ReplyTooLargeError
from taskfleet.protocol.introductions import RUNS_FIELD, Run, read_runs
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.keys import literal
from taskfleet.redis.queue_calls import QueueCalls

if TYPE_CHECKING:
    from taskfleet.protocol.task_record import Inspection, Place, Structure, TaskRecord

_SCANNED = 1000  # keys that one SCAN looks at
_TAGS_TOGETHER = 100
_MOST_TAG_BYTES = 1_048_576


class Inspecting(QueueCalls):
    """What is known of single tasks. No call changes anything."""

    async def inspect(self, partition: Partition, ids: Sequence[str], *, most_bytes: int, line: int = 0) -> Inspection:
        """The records of tasks, each of one moment. Of a payload of more than `most_bytes`, only a part is read.

        A ready task is looked for in the first `line` places of the queue.
        """
        from taskfleet.protocol.task_record import MOST_INSPECTED

        records: list[TaskRecord] = []
        while True:
            some = ids[len(records) : len(records) + MOST_INSPECTED]
            found = await self._inspect(partition, some, most_bytes, line)
            records += found.records
            if not found.records or len(records) >= len(ids):
                return found._replace(records=records)

    async def _inspect(self, partition: Partition, ids: Sequence[str], most_bytes: int, line: int) -> Inspection:
        from taskfleet.redis.calls import inspection

        while True:
            call = inspection.inspect(self.keys_of(partition), ids, most_bytes=most_bytes, line=line)
            try:
                return await self.call(call)
            except ReplyTooLargeError:
                if not most_bytes:
                    raise
                ids, most_bytes = ids[:1], 0

    async def places(
        self, partition: Partition, structure: Structure, after: Place | None, *, limit: int
    ) -> list[Place]:
        """The next members of a structure, in its order."""
        from taskfleet.redis.calls import inspection

        return await self.call(inspection.places(self.keys_of(partition), structure, after, limit=limit))

    async def last_letters(self, partition: Partition, *, limit: int) -> list[Place]:
        """The dead letters that died last, the latest last."""
        from taskfleet.protocol.task_record import Place

        key = self.keys_of(partition).dead
        found = await self.patiently(lambda: self.client.redis.zrange(key, -limit, -1, withscores=True))
        return [Place(float(died_ms), member) for member, died_ms in found]

    async def results(self, partition: Partition, cursor: int) -> tuple[list[str], int]:
        """(ids that have a stored result, the next cursor): one short look through the keys of a server.

        The cursor is 0 at the start, and at the end. An id may come twice.
        """
        names = self.keys_of(partition)
        start = names.result("")

        async def scan() -> tuple[int, list[bytes]]:
            server = await self.client.redis_of(names.task)
            found: tuple[int, list[bytes]] = await server.scan(cursor, match=f"{literal(start)}*", count=_SCANNED)
            return found

        following, keys = await self.patiently(scan)
        texts = [foreign.text(key) for key in keys]
        return [text.removeprefix(start) for text in texts], int(following)

    async def waited_for(self, partition: Partition, task_id: str, near: Sequence[str], *, most: int) -> list[str]:
        """The tasks of this partition that `task_id` waits for: among those of `near`, and then among `most` others."""
        key = self.keys_of(partition).tag
        wanted = task_id.encode()
        found: list[str] = []
        for start in range(0, len(near), _TAGS_TOGETHER):
            some = near[start : start + _TAGS_TOGETHER]
            tags = await self.patiently(lambda some=some: self.client.redis.hmget(key, some))
            found += [other for other, tag in zip(some, tags, strict=True) if tag and _waits(tag, wanted)]
        cursor = looked_at = 0
        while not found and looked_at < most:
            cursor, entries = await self.patiently(
                lambda cursor=cursor: self.client.redis.hscan(key, cursor, count=_TAGS_TOGETHER)
            )
            found += [foreign.text(other) for other, tag in entries.items() if _waits(tag, wanted)]
            looked_at += max(1, len(entries))
            if not cursor:
                break
        return found

    async def waiting_for(self, partition: Partition, task_id: str) -> tuple[list[tuple[Partition, str, int]], bool]:
        """(partition, id, position) of tasks that wait for a task that has not ended, and whether these are all.

        Of a task with many, only the first ones are in its record.
        """
        key = self.keys_of(partition).tag
        return _edges(await self.patiently(lambda: self.client.redis.hget(key, task_id)) or b"")

    async def introduced(self, names: Sequence[str]) -> dict[str, str]:
        """Who makes ids with these prefixes, or holds leases of these incarnations, as far as it is known."""
        wanted = list(dict.fromkeys(names))

        async def read() -> list[bytes | None]:
            pipeline = self.client.redis.pipeline(transaction=False)
            for name in wanted:
                pipeline.get(self.fleet.who(name))
            found: list[bytes | None] = await pipeline.execute()
            return found

        values = await self.patiently(read) if wanted else []
        told = zip(wanted, values, strict=True)
        return {name: foreign.text(value)[: foreign.NAME_LIMIT] for name, value in told if value}

    async def runs_of(self, worker_id: str) -> list[Run]:
        """The longer runs of a worker, as its last heartbeat tells them."""
        key = self.fleet.worker(worker_id)
        return read_runs(await self.patiently(lambda: self.client.redis.hget(key, RUNS_FIELD)))


def _waits(tag: bytes, task_id: bytes) -> bool:
    """Whether a tag (lua/queue/records.lua) has an edge to this task."""
    if task_id not in tag or len(tag) > _MOST_TAG_BYTES:
        return False
    try:
        edges = msgpack.unpackb(tag, raw=True, strict_map_key=False).get(b"n") or []
        return any(edge[1] == task_id for edge in edges)
    except Exception:  # another program has written it
        return False


def _edges(tag: bytes) -> tuple[list[tuple[Partition, str, int]], bool]:
    if not tag or len(tag) > _MOST_TAG_BYTES:
        return [], not tag
    found: list[tuple[Partition, str, int]] = []
    try:
        fields = msgpack.unpackb(tag, raw=True, strict_map_key=False)
        for partition, task_id, position, *_ in fields.get(b"n") or []:
            found.append((Partition(foreign.partition(partition)), foreign.text(task_id), int(position)))
        return found, not fields.get(b"e")
    except Exception:  # another program has written it
        return found, False
