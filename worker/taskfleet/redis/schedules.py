"""The schedules of all queues in Redis: each is in the hash slot of the tasks that it makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from redis import exceptions as redis_exceptions

from taskfleet import foreign
from taskfleet.errors import ReplyTooLargeError
from taskfleet.protocol import bounds
from taskfleet.protocol.due import NO_STATE, START, Due, TickPosition
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import keys
from taskfleet.redis.calls import schedules as calls
from taskfleet.redis.calls.schedules import DueReply, StoredSchedule
from taskfleet.redis.queue_calls import QueueCalls
from taskfleet.redis.redis_errors import connection_error
from taskfleet.redis.replies import TooLongError

if TYPE_CHECKING:
    from taskfleet.protocol.schedules import Entry, Tick, TickReply

_MOST_LISTED, _PAGE_BYTES = 500, 1_000_000  # in about one reply of a list


class ScheduleStore:
    """Adds, removes, lists and ticks schedules. Their names are unique in the fleet.

    `add`, `remove` and `entries` retry and raise `BrokerConnectionError`. `due` and `tick` raise the errors of Redis as
    they are, since a scheduler calls them again anyway.
    """

    def __init__(self, queues: QueueCalls) -> None:
        self._queues = queues
        self._client = queues.client

    async def add(self, partition: Partition, name: str, spec: bytes, next_ms: int) -> int | None:
        """Add or replace a schedule. Returns the next tick, which stays the same if the timing is the same."""
        queues = self._queues
        await queues.patiently(lambda: self._client.redis.sadd(queues.fleet.queues, partition))
        return await queues.call(calls.add(queues.keys_of(partition), queues.fleet, name, spec, next_ms))

    async def change(self, before: Entry, spec: bytes, next_ms: int) -> bool:
        """Replace a schedule by another spec, unless it has changed since it was read."""
        queues = self._queues
        names = queues.keys_of(before.partition)
        call = calls.add(names, queues.fleet, before.name, spec, next_ms, instead_of=before.spec)
        return await queues.call(call) != calls.CHANGED

    async def remove(self, partition: Partition, name: str) -> Entry | None:
        """Remove a schedule from one partition and return it."""
        from taskfleet.protocol.schedules import Entry

        removed = await self._queues.call(calls.remove(self._queues.keys_of(partition), name))
        return Entry(partition, name, removed.spec, NO_STATE, removed.tick_ms) if removed else None

    async def now_ms(self, partition: Partition) -> int:
        """The time in ms by the clock of the Redis server that has this partition's schedules."""
        return await self._queues.now_ms(partition)

    async def partitions(self) -> list[Partition]:
        """All partitions that may have schedules. It does not retry."""
        members = await self._client.redis.smembers(self._queues.fleet.queues)
        return sorted(keys.partitions_among(members, self._queues.skipped))

    async def entries(self) -> list[Entry]:
        """All schedules, by partition and name."""
        found: list[Entry] = []
        for partition in await self._queues.partitions():
            found += await self.entries_of(partition)
        return found

    async def entries_of(self, partition: Partition) -> list[Entry]:
        """The schedules of one partition, by name."""
        names, found = self._queues.keys_of(partition), dict[bytes, StoredSchedule]()
        cursor, count = b"0", 10
        while True:
            try:
                page = await self._queues.call(calls.page(names, cursor, count))
            except ReplyTooLargeError:
                return [entry async for entry in self._entries_apart(partition)]
            found |= {stored.name: stored for stored in page.schedules}
            cursor = page.cursor
            if cursor == b"0":
                break
            # The number that fits into a page, judged by the size of the last schedules.
            size = max(1, page.bytes // max(1, len(page.schedules)))
            count = max(1, min(2 * count, _MOST_LISTED, _PAGE_BYTES // size))
        listed = (self._entry(partition, *found[name][:-1], found[name].tick or None) for name in sorted(found))
        return [entry for entry in listed if entry is not None]

    async def _entries_apart(self, partition: Partition) -> AsyncIterator[Entry]:
        """The schedules one by one, where all together are too large for a reply.

        One that alone is too large is omitted.
        """
        redis, queues = self._client.redis, self._queues
        schedules, ticks, ticked = queues.keys_of(partition).schedules
        for name in sorted(await queues.patiently(lambda: redis.hkeys(schedules))):
            try:
                spec = await redis.hget(schedules, name)
                state = await redis.hget(ticked, name)
                tick = await redis.zscore(ticks, name)
            except (redis_exceptions.RedisError, OSError) as error:
                if not isinstance(error, TooLongError):
                    raise connection_error(self._client.url, error) from None
                queues.skipped.add("schedule", name, error)
                continue
            entry = self._entry(partition, name, spec, state or NO_STATE, tick) if spec is not None else None
            if entry is not None:
                yield entry

    async def due(
        self,
        partitions: Sequence[Partition],
        *,
        limit: int,
        past: Mapping[Partition, TickPosition] = MappingProxyType({}),
    ) -> list[Due]:
        """Ask several partitions in one round trip, for at most `limit` due schedules of each.

        Schedules up to `past` are skipped, if the same schedule is still at that position.
        """
        many = [
            calls.due(self._queues.keys_of(partition), limit=limit, past=past.get(partition, START))
            for partition in partitions
        ]
        try:
            replies = await self._queues.call_many_once(many)
        except TooLongError as error:
            return await self._fewer_due(partitions, limit, past, error)
        return [self._due(partition, reply) for partition, reply in zip(partitions, replies, strict=True)]

    async def _fewer_due(
        self,
        partitions: Sequence[Partition],
        limit: int,
        past: Mapping[Partition, TickPosition],
        error: TooLongError,
    ) -> list[Due]:
        """Ask for fewer, and for each partition alone: a schedule too large to read delays no other partition."""
        if limit > 1:
            return await self.due(partitions, limit=limit // 8 or 1, past=past)
        if len(partitions) > 1:
            return [found for each in partitions for found in await self.due([each], limit=limit, past=past)]
        self._queues.skipped.add("schedule", partitions[0].encode(), error)
        return []

    async def tick(self, ticks: Sequence[Tick]) -> list[TickReply]:
        """Perform ticks, in as few round trips as their bytes allow."""
        found: list[TickReply] = []
        queues = self._queues
        if queues.introduction.is_due:
            queues.introduction.start()
        for start, end, _ in bounds.windows(ticks, lambda tick: len(tick.envelope) + 1024):
            many = [
                calls.tick(queues.keys_of(tick.entry.partition), queues.fleet, tick, queues.seal)
                for tick in ticks[start:end]
            ]
            found += await queues.call_many_once(many)
        return found

    def _due(self, partition: Partition, reply: DueReply) -> Due:
        found = (self._entry(partition, *stored) for stored in reply.schedules)
        entries = tuple(entry for entry in found if entry is not None and entry.tick_ms is not None)
        return Due(partition, reply.now_ms, reply.later_ms, entries, reply.more, reply.reached)

    def _entry(
        self, partition: Partition, name: bytes, spec: bytes, state: bytes, tick: bytes | int | None
    ) -> Entry | None:
        """The entry; `None` for a schedule that Taskfleet cannot have written, which does not affect the others.

        One whose next tick is no time has none.
        """
        from taskfleet.protocol.schedules import Entry  # only here: most fleets have no schedule

        tick_ms = None
        try:
            known = foreign.identifier(name)
        except foreign.ForeignError as error:
            self._queues.skipped.add("schedule", name, error)
            return None
        try:
            tick_ms = None if tick is None else foreign.whole(tick, "its next tick", most=foreign.LAST_MS)
        except foreign.ForeignError as error:
            self._queues.skipped.add("tick of a schedule", name, error)
        return Entry(partition, known, spec, state, tick_ms)

    def changes(self) -> AsyncIterator[str]:
        """The names of schedules as they are added or replaced; see `QueueCalls.listen`."""
        return self._queues.listen(self._queues.fleet.schedules_channel)

    async def failed(self, error: BaseException) -> None:
        """React to a failure of `due` or `tick` before trying again."""
        await self._client.dropped(error)
