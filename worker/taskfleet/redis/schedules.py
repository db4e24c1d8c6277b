"""The schedules of every queue, in Redis: each in the hash slot that its tasks go to.

`queue` means a partition everywhere here: protocol/partitions.py has the names.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_exceptions

from taskfleet import foreign
from taskfleet.errors import ReplyTooLargeError
from taskfleet.protocol import bounds, result_record
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.schedules import NO_STATE, START, Due, Entry, Tick, TickPosition, TickReply
from taskfleet.redis import scripts
from taskfleet.redis.redis_errors import connection_error
from taskfleet.redis.replies import TooLongError

if TYPE_CHECKING:
    from taskfleet.redis.broker import RedisBroker

_MOST_LISTED, _PAGE_BYTES = 500, 1_000_000  # in about one reply of a list


class ScheduleStore:
    """Add, remove, list, and let tick. Names are unique in the fleet.

    `add`, `remove` and `entries` are patient and raise `BrokerConnectionError`; `due` and `tick`, which a scheduler
    calls again anyway, pass the errors of Redis through.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._client = broker.client

    async def add(self, queue: str, name: str, spec: bytes, next_ms: int) -> int | None:
        """Add or replace; returns the next tick, which a timing that is still the same keeps."""
        await self._patiently(lambda: self._client.redis.sadd(self._broker.fleet.queues, queue))
        args = (name, spec, next_ms, self._broker.fleet.schedules_channel)
        reply = await self._patiently(
            lambda: self._client.run(scripts.SCHEDULE_ADD, self._broker.keys_of(queue).schedules[:2], args)
        )
        return reply[0] if reply else None

    async def remove(self, queue: str, name: str) -> Entry | None:
        """Remove from one queue; returns what was there."""
        reply = await self._patiently(
            lambda: self._client.run(scripts.SCHEDULE_REMOVE, self._broker.keys_of(queue).schedules, (name,))
        )
        return Entry(queue, name, reply[0], NO_STATE, reply[1] if reply[1] >= 0 else None) if reply else None

    async def now_ms(self, queue: str) -> int:
        """The clock of the Redis that this queue's schedules live in."""
        look = await self._patiently(lambda: self.due([queue], limit=0))
        return int(look[0].now_ms)

    async def queues(self) -> list[str]:
        """Every partition of every queue that may have schedules. Not patient."""
        return sorted(self._broker.places(await self._client.redis.smembers(self._broker.fleet.queues)))

    async def entries(self) -> list[Entry]:
        """All schedules, by queue and name."""
        found: list[Entry] = []
        for queue in await self._broker.partitions():
            found += await self.entries_of(queue)
        return found

    async def entries_of(self, queue: str) -> list[Entry]:
        """The schedules of one queue, by name."""
        names, found = self._broker.keys_of(queue).schedules, dict[bytes, Sequence[bytes]]()
        cursor, page = b"0", 10
        while True:
            call = functools.partial(self._client.run, scripts.SCHEDULE_LIST, names, (cursor, page))
            try:
                cursor, flat = await self._patiently(call)
            except ReplyTooLargeError:
                return [entry async for entry in self._entries_apart(queue)]
            found |= {flat[i]: flat[i + 1 : i + 4] for i in range(0, len(flat), 4)}
            if cursor == b"0":
                break
            # As many as go into a page by the size of the last ones.
            size = max(1, sum(map(len, flat)) // max(1, len(flat) // 4))
            page = max(1, min(2 * page, _MOST_LISTED, _PAGE_BYTES // size))
        listed = (
            self._entry(queue, name, spec, state, tick or None) for name, (spec, state, tick) in sorted(found.items())
        )
        return [entry for entry in listed if entry is not None]

    async def _entries_apart(self, queue: str) -> AsyncIterator[Entry]:
        """One by one, where all together are too large for a reply; one that is too large alone is left out."""
        redis, names = self._client.redis, self._broker.keys_of(queue).schedules
        for name in sorted(await self._patiently(lambda: redis.hkeys(names[0]))):
            try:
                spec = await redis.hget(names[0], name)
                state = await redis.hget(names[2], name)
                tick = await redis.zscore(names[1], name)
            except (redis_exceptions.RedisError, OSError) as error:
                if not isinstance(error, TooLongError):
                    raise connection_error(self._client.url, error) from None
                self._broker.skipped.add("schedule", name, error)
                continue
            entry = self._entry(queue, name, spec, state or NO_STATE, tick) if spec is not None else None
            if entry is not None:
                yield entry

    async def due(
        self, queues: Sequence[str], *, limit: int, past: Mapping[str, TickPosition] = MappingProxyType({})
    ) -> list[Due]:
        """Look at several queues in one round trip; at most `limit` due schedules of each.

        Those up to `past` are passed over, if what stands there is still the same.
        """
        if not queues:
            return []
        calls = [(self._broker.keys_of(queue).schedules, (limit, *past.get(queue, START))) for queue in queues]
        try:
            replies = await self._client.run_many(scripts.SCHEDULE_DUE, calls)
        except TooLongError as error:
            return await self._fewer_due(queues, limit, past, error)
        return [self._due(queue, *reply) for queue, reply in zip(queues, replies, strict=True)]

    async def _fewer_due(
        self, queues: Sequence[str], limit: int, past: Mapping[str, TickPosition], error: TooLongError
    ) -> list[Due]:
        """Fewer at a time, and each queue for itself: one whose next schedule is too large to read costs no other."""
        if limit > 1:
            return await self.due(queues, limit=limit // 8 or 1, past=past)
        if len(queues) > 1:
            return [found for queue in queues for found in await self.due([queue], limit=limit, past=past)]
        self._broker.skipped.add("schedule", queues[0].encode(), error)
        return []

    async def tick(self, ticks: Sequence[Tick]) -> list[TickReply]:
        """Let ticks happen, in as few round trips as their bytes allow."""
        found: list[TickReply] = []
        for start, end, _ in bounds.windows(ticks, lambda tick: len(tick.envelope) + 1024):
            replies = await self._client.run_many(scripts.TICK, [self._call(tick) for tick in ticks[start:end]])
            found += [_reply(*reply) for reply in replies]
        return found

    def _due(self, queue: str, now_ms: int, later_ms: int, flat: Sequence[Any], more: int, *reached: Any) -> Due:
        found = (self._entry(queue, flat[i], flat[i + 2], flat[i + 3], flat[i + 1]) for i in range(0, len(flat), 4))
        entries = tuple(entry for entry in found if entry is not None)
        later = later_ms if 0 <= later_ms <= foreign.LAST_MS else None
        return Due(queue, now_ms, later, entries, bool(more), TickPosition(*reached))

    def _entry(self, queue: str, name: bytes, spec: bytes, state: bytes, tick: bytes | int | None) -> Entry | None:
        """`None` for a schedule that nobody of us has written; the others go on."""
        try:
            tick_ms = None if tick is None else foreign.whole(tick, "its next tick", most=foreign.LAST_MS)
            return Entry(queue, foreign.identifier(name), spec, state, tick_ms)
        except foreign.ForeignError as error:
            self._broker.skipped.add("schedule", name, error)
            return None

    def _call(self, tick: Tick) -> tuple[Sequence[str], Sequence[Any]]:
        queue = tick.entry.queue
        names, fleet = self._broker.keys_of(queue), self._broker.fleet
        replaced = [names.result(tick.replaces)] if tick.replaces else []
        item = tick.packed_task()
        reason = f"replaced by the next tick of schedule {tick.entry.name!r}"
        record = result_record.pack_cancelled(reason)
        if tick.replaces:
            record = self._broker.seal.close("result", queue_of(queue), tick.replaces, record)
        args = (
            fleet.activity, queue_of(queue), tick.max_length, fleet.control_channel, names.done_channel,
            tick.entry.name, tick.revision, tick.entry.tick_ms, tick.next_ms or 0, tick.fire_ms or 0,
            item, tick.replaces, record, result_record.CANCELLED_TTL_MS, reason,
            int(tick.dropped),
        )  # fmt: skip
        return (*names.all, *names.schedules, *replaced), args

    def changes(self) -> AsyncIterator[str]:
        """The names of schedules that are added or replaced, as it happens; see `RedisBroker.listen`."""
        return self._broker.listen(self._broker.fleet.schedules_channel)

    async def failed(self, error: BaseException) -> None:
        """Take note of a failure of `due` or `tick` before trying again."""
        await self._client.dropped(error)

    async def _patiently(self, operation: Any) -> Any:
        return await self._broker.patiently(operation)


def _reply(result: bytes, detail: bytes | int) -> TickReply:
    if isinstance(detail, int):
        return TickReply(foreign.text(result), "", detail)
    return TickReply(foreign.text(result), foreign.text(detail), 0)
