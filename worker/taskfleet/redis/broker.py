"""The queue in Redis, as producers, views and the operator use it."""

from __future__ import annotations

import functools
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgpack

from taskfleet import foreign, showing
from taskfleet.errors import (
    BrokerConnectionError,
    PayloadTooLargeError,
    ReplyTooLargeError,
    SerializationError,
    TaskQueueError,
)
from taskfleet.protocol import bounds, dead_letter, result_record, unpacking
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.claim import TAKEOVERS_PER_STEP, Claim, StepReply, Takeover
from taskfleet.protocol.clock import RedisClock
from taskfleet.protocol.dead_letter import warn_of_kept
from taskfleet.protocol.item import (
    ITEM_EXTRAS,
    REPLACEMENTS,
    Edge,
    Item,
    coming_again,
    pack_edges,
    pack_items,
    queue_full,
)
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import FIELDS, WorkerInfo
from taskfleet.redis import connection, keys, misfits, replies, scripts
from taskfleet.redis.credentials import Tls
from taskfleet.redis.redis_errors import CallTooLargeError
from taskfleet.redis.renewal import RedisRenewer
from taskfleet.redis.schedules import ScheduleStore
from taskfleet.redis.server import Timeouts
from taskfleet.redis.sockets import abandon, descriptor_of

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

logger = showing.logger("taskfleet")

_CALLS_TOGETHER = 8
_META = re.compile(rb"(\d{1,15}):(\d{1,15}):")  # of what is not on its first try: attempt, deliveries, …
_DELIVERY = re.compile(rb"\d{1,15}")
_LETTERS_TOGETHER = 100
_FIGURES_TOGETHER = 256
_WORKERS_TOGETHER = 64
_MOST_WORKERS = 10_000
_LETTERS_AT_ONCE = 500
_PAGE_BYTES = 1_000_000
_PAGED_BYTES = 128 * 1_048_576  # of all results that one task takes, with twice what a reply may have
_PAGED = re.compile(rb"[\xa0-\xbf](\d{1,9}) of \d{1,9} in pages")
_KNOWN_SECONDS = 60.0  # after that a queue is listed again: Redis may have lost its data


class RedisBroker:
    """All operations on queues. Nothing connects before the first call.

    Errors: `BrokerConnectionError` when Redis does not answer after a few tries.
    """

    def __init__(self, client: connection.RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        self.client = client
        self.seal = seal  # for the records that are made here
        self.prefix = prefix
        self.fleet = keys.FleetKeys(prefix)
        self.skipped = foreign.Skipped()  # records in Redis that are none of ours
        self.schedules = ScheduleStore(self)
        self.clock = RedisClock(self.schedules.now_ms)
        self._known_until: dict[str, float] = {}
        self._keys: dict[str, keys.QueueKeys] = {}
        # Names under which calls are counted, so that one sent twice is known: each is used by one call at a time.
        self._senders: dict[tuple[int, str], list[tuple[str, int]]] = {}

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "taskfleet",
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        command_timeout: float = 5.0,
        login: Mapping[str, Any] | None = None,
        sentinel_login: Mapping[str, Any] | None = None,
        tls: Tls | None = None,
    ) -> RedisBroker:
        """Timeouts in seconds; `login` and `sentinel_login`: username, password, or a credential_provider."""
        access = connection.Access(
            url,
            pool_size=pool_size,
            timeouts=Timeouts(connect_timeout, command_timeout),
            login=login or {},
            sentinel_login=sentinel_login or {},
            tls=tls,
        )
        return cls(connection.connect(access), prefix)

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def one_slot_only(self) -> bool:
        return self.client.one_slot_only

    def another(self) -> RedisBroker:
        """A broker on the same queues with connections of its own, for another thread or loop."""
        return RedisBroker(self.client.another(), self.prefix, self.seal)

    def renewer(self) -> RedisRenewer:
        """The calls of a worker's lease thread, with connections of their own."""
        return RedisRenewer(self.client.new_sync(), self.prefix)

    def keys_of(self, queue: str) -> keys.QueueKeys:
        names = self._keys.get(queue)
        if names is None:
            names = self._keys[queue] = keys.of_queue(self.prefix, queue)
        return names

    async def ping(self) -> None:
        await self._patiently(lambda: self.client.redis.ping())

    async def close(self) -> None:
        await self.client.close()

    def abandon(self) -> None:
        """Close all sockets without their loop, which is closed."""
        for each in self.client.connections():
            abandon(each)

    def descriptors(self) -> list[int]:
        """The file descriptors of all sockets that are open."""
        return [number for each in self.client.connections() if (number := descriptor_of(each)) >= 0]

    async def dropped(self, error: BaseException) -> None:
        """Take note of a failed call: connections to a server that is not the right one are closed."""
        await self.client.dropped(error)

    # Producers.

    async def enqueue(
        self, queue: str, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        """Add tasks in order. All or nothing when `max_length` would be passed.

        With `room_for` there must be room for so many, of which these are the first. Returns which positions were not
        added because another task has their unique key, and that task's id.

        Errors: `QueueFullError`, and `PayloadTooLargeError` for a task that Redis refuses for its size.
        """
        now = time.monotonic()
        if now >= self._known_until.get(queue, 0.0):
            await self._patiently(lambda: self.client.redis.sadd(self.fleet.queues, queue))
            self._known_until[queue] = now + _KNOWN_SECONDS
        room_for = room_for or len(items)
        if len(items) == 1:
            return await self._enqueue_part(queue, items, max_length, room_for, bounds.item_bytes(items[0]))
        if not items:
            return {}
        # The first call makes sure of room for all.
        (start, end, size), *parts = bounds.windows(items, bounds.item_bytes)
        holders = await self._enqueue_part(queue, items[start:end], max_length, room_for, size)
        if parts and all(item[ITEM_EXTRAS] is None for item in items):
            await self._enqueue_plain_parts(queue, items, parts)
        else:
            for start, end, size in parts:
                found = await self._enqueue_part(queue, items[start:end], 0, end - start, size)
                holders |= {start + position: holder for position, holder in found.items()}
        return holders

    async def _enqueue_plain_parts(
        self, queue: str, items: Sequence[Item], parts: Sequence[tuple[int, int, int]]
    ) -> None:
        """Several calls in one message, where they are so small that Redis refuses none."""
        together: list[Sequence[Item]] = []
        bytes_together = 0
        for start, end, size in parts:
            if together and (len(together) == _CALLS_TOGETHER or bytes_together + size > bounds.CALL_BYTES):
                await self._enqueue_plain(queue, together)
                together, bytes_together = [], 0
            if size > bounds.SURE_BYTES:
                await self._enqueue_part(queue, items[start:end], 0, end - start, size)
            else:
                together.append(items[start:end])
                bytes_together += size
        if together:
            await self._enqueue_plain(queue, together)

    async def _enqueue_part(
        self, queue: str, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        """One call, or more when Redis refuses it for its size: somebody may have lowered its limits."""
        try:
            return await self._enqueue_chunk(queue, items, max_length, total, size)
        except CallTooLargeError as error:
            if len(items) == 1:
                raise PayloadTooLargeError(
                    f"queue {queue!r}: {error}; store the data elsewhere and pass its address, or raise these limits"
                ) from None
        middle = len(items) // 2
        holders = await self._enqueue_part(queue, items[:middle], max_length, total, size // 2)
        found = await self._enqueue_part(queue, items[middle:], 0, len(items) - middle, size // 2)
        return holders | {middle + position: holder for position, holder in found.items()}

    async def _enqueue_plain(self, queue: str, chunks: Sequence[Sequence[Item]]) -> None:
        """Several calls in one message: Redis goes from one to the next without waiting for us.

        Each is counted under a name of its own: one that was refused on the way (a script that was lost, a replica that
        was missing) is sent again when those behind it have long arrived, and must not pass for a late copy of them.
        """
        streams = [self._stream(queue) for _ in chunks]
        calls = [
            self._enqueue_script_call(queue, chunk, 0, len(chunk), stream)
            for chunk, stream in zip(chunks, streams, strict=True)
        ]
        await self._patiently(lambda: self.client.run_many(scripts.ENQUEUE, calls))
        self._free_streams(queue).extend(streams)

    async def _enqueue_chunk(
        self, queue: str, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        held = await self._enqueue_call(queue, items, max_length, total, size)
        if not held:
            return held
        kept: dict[int, str] = {}
        for _ in range(REPLACEMENTS):
            again = coming_again(self.seal, queue, items, held)
            kept |= {at: holder for at, holder in held.items() if at not in again}
            if not again:
                return kept
            found = await self._enqueue_call(queue, list(again.values()), max_length, len(again), size)
            positions = list(again)
            held = {positions[at]: holder for at, holder in found.items()}
        raise TaskQueueError(f"queue {queue!r}: a unique key is replaced by others faster than by this call; try again")

    async def _enqueue_call(
        self, queue: str, items: Sequence[Item], max_length: int, total: int, size: int
    ) -> dict[int, str]:
        stream = self._stream(queue)
        script_keys, args = self._enqueue_script_call(queue, items, max_length, total, stream)
        reply = await self._patiently(lambda: self.client.run(scripts.ENQUEUE, script_keys, args), size)
        self._free_streams(queue).append(stream)
        if reply[0] < 0:
            raise queue_full(queue, reply[1], max_length)
        if len(reply) > 2 and reply[2]:
            await self.relay(queue)  # what was replaced had others waiting for it
        found = reply[1]
        return {found[i]: foreign.text(found[i + 1]) for i in range(0, len(found), 2)} if found else {}

    def _enqueue_script_call(
        self, queue: str, items: Sequence[Item], max_length: int, total: int, stream: tuple[str, int]
    ) -> tuple[Sequence[str], Sequence[Any]]:
        names = self.keys_of(queue)
        sender, number = stream
        replaced = [
            names.result(extras.replaces) for *_, extras in items if extras is not None and extras.replaces is not None
        ]
        packed = pack_items(items)
        args = (
            self.fleet.activity, queue_of(queue), max_length, total, packed, number, names.done_channel
        )  # fmt: skip
        return (*names.all, names.sender(sender), *replaced), args

    def _stream(self, queue: str) -> tuple[str, int]:
        """(name, number) for the next call: a name that no other call uses now, and its next number."""
        free = self._free_streams(queue)
        sender, number = free.pop() if free else (secrets.token_urlsafe(6), 0)
        return sender, number + 1

    def _free_streams(self, queue: str) -> list[tuple[str, int]]:
        # A process forked from this one must not go on counting under its parent's names.
        return self._senders.setdefault((os.getpid(), queue), [])

    async def report(self, queue: str, incarnation: str, reports: Sequence[tuple[str, int, bytes]]) -> set[str]:
        """Store (id, delivery, packed report) of running tasks; returns the ids of those that are not ours any more.

        Errors of Redis pass through: a later report tells more.
        """
        args = (incarnation, msgpack.packb(reports, use_bin_type=False))
        return {foreign.text(lost) for lost in await self.client.run(scripts.PROGRESS, self.keys_of(queue).all, args)}

    async def cancel(self, queue: str, task_id: str, record: bytes, ttl_ms: int, reason: str) -> bool:
        names = self.keys_of(queue)
        args = (task_id, record, ttl_ms, self.fleet.control_channel, names.done_channel, reason)
        changed, signals = await self._patiently(
            lambda: self.client.run(scripts.CANCEL, (*names.all, names.result(task_id)), args)
        )
        if signals:
            await self.relay(queue)
        return bool(changed)

    # Workflows.

    async def holder(self, queue: str, unique_key: str) -> str | None:
        """The task that has a unique key, for the moment."""
        names = self.keys_of(queue)
        found = await self._patiently(lambda: self.client.redis.hget(names.unique, unique_key))
        lives = found and await self._patiently(lambda: self.client.redis.hexists(names.task, found))
        return foreign.text(found) if lives else None

    async def link(self, queue: str, task_id: str, edges: Sequence[Edge]) -> tuple[str, bytes]:
        """Let at most `MOST_EDGES` tasks wait for another.

        (state, record): linked, unknown, dead and its letter, ended and its record.
        """
        names = self.keys_of(queue)
        args = (task_id, pack_edges(edges))
        state, record = await self._patiently(
            lambda: self.client.run(scripts.LINK, (*names.all, names.result(task_id)), args)
        )
        return foreign.text(state), record

    async def confirm(self, queue: str, ids: Sequence[str]) -> None:
        """All parts of the workflow are in Redis: nothing of it will be dropped any more."""
        for start in range(0, len(ids), CHUNK):
            scores = dict.fromkeys(ids[start : start + CHUNK], float("inf"))
            await self._patiently(
                lambda scores=scores: self.client.redis.zadd(self.keys_of(queue).blocked, scores, xx=True)
            )

    async def signal(self, signal: Signal) -> int:
        """Deliver one signal; returns how many the receiving queue has in its own outbox now."""
        names = self.keys_of(signal.queue)
        record, told = signal.cancellation(self.seal)
        args = (
            signal.id, signal.position, signal.state, signal.value, record, result_record.CANCELLED_TTL_MS,
            names.done_channel, told, self.fleet.activity, queue_of(signal.queue),
        )  # fmt: skip
        waiting: int = await self._patiently(
            lambda: self.client.run(scripts.RESOLVE, (*names.all, names.result(signal.id)), args)
        )
        return waiting

    async def relay(self, queue: str) -> None:
        """Deliver what stands in a queue's outbox, and what that causes in others'. Safe to do by many at once."""
        queues = [queue]
        while queues:
            name = queues.pop()
            outbox = self.keys_of(name).outbox
            together = 16
            while True:
                try:
                    packed = await self._patiently(
                        lambda outbox=outbox, last=together - 1: self.client.redis.lrange(outbox, 0, last)
                    )
                except ReplyTooLargeError:
                    if together == 1:
                        raise
                    together //= 2
                    continue
                for entry in packed:
                    signal = self._signal_of(name, entry)
                    if (
                        signal is not None
                        and await self.signal(signal)
                        and signal.queue != name
                        and signal.queue not in queues
                    ):
                        queues.append(signal.queue)
                    # Only what was delivered goes; a relay that dies here delivers it again, which changes nothing.
                    await self._patiently(lambda o=outbox, e=entry: self.client.redis.lrem(o, 1, e))
                if not packed and not await self._drain(name):
                    break

    async def _drain(self, queue: str) -> int:
        """Go on with what no single call may do; returns how much is left to be told or done."""
        args = (self.fleet.activity, queue_of(queue))
        left: int = await self._patiently(lambda: self.client.run(scripts.DRAIN, self.keys_of(queue).all, args))
        return left

    def _signal_of(self, queue: str, entry: bytes) -> Signal | None:
        """A signal in the outbox of `queue`; `None` for what is none, and must not keep back those behind it."""
        try:
            to, task_id, position, source, state, value = unpacking.record(entry, most_bytes=len(entry))
            if type(position) is not int or type(value) is not bytes:
                raise foreign.ForeignError("its fields are of other types")
            return Signal(
                foreign.partition(to),
                foreign.text(task_id),
                position,
                foreign.text(source),
                foreign.text(state),
                value,
                queue,
            )
        except Exception as error:  # whatever can be wrong with bytes
            self.skipped.add("signal", entry[:100], error)
            return None

    # Workers.

    async def step(
        self, queue: str, options: QueueOptions, incarnation: str, slots: int, outcomes: Sequence[Outcome]
    ) -> StepReply:
        """Record outcomes and claim up to `slots` tasks. Errors of Redis pass through: the worker sends again."""
        names = self.keys_of(queue)
        done: list[str] = []
        busy_ms = 0
        others: list[Outcome] = []
        for ended in outcomes:
            # By far the most: a first delivery that succeeded and keeps no result is told by its id alone.
            if ended[2] == "s" and ended[1] == 1 and not ended[4]:
                done.append(ended[0])
                busy_ms += ended[3]
            else:
                others.append(ended)
        stale, taken_over = 0, list[Takeover]()
        while True:
            results = [names.result(ended[0]) for ended in others if ended[4] and ended[5]] if others else []
            args = self._step_args(queue, options, incarnation, slots, others, busy_ms, done)
            script_keys = (*names.all, *results) if results else names.all
            raw = await self.client.run(scripts.STEP, script_keys, args)
            reply = await self._with_pages(self._step_reply(queue, raw))
            if not raw[9]:
                break
            # Too much for one call: the rest follows, and the claim with the last of it.
            done, others, busy_ms = done[raw[9][0] :], others[raw[9][1] :], 0
            stale += reply.stale
            taken_over += reply.taken_over
        if stale or taken_over:
            reply = reply._replace(stale=stale + reply.stale, taken_over=[*taken_over, *reply.taken_over])
        return reply

    async def step_when_called(
        self, queue: str, options: QueueOptions, incarnation: str, slots: int, timeout: float
    ) -> StepReply:
        """Wait until this partition calls for a worker, at most `timeout` s, and claim: the claim follows the call
        inside Redis, without a round trip between them."""
        names = self.keys_of(queue)
        args = self._step_args(queue, options, incarnation, slots, (), 0, ())
        reply = await self.client.pop_and_run(names.wake, timeout, scripts.STEP, names.all, args)
        return await self._with_pages(self._step_reply(queue, reply))

    async def _with_pages(self, reply: StepReply) -> StepReply:
        """With the results that were too many for the call: lua/queue/inputs.lua."""
        if not reply.paged:
            return reply
        claims = list(reply.claims)
        for at, carried in reply.paged:
            queue, task_id = claims[at][:2]
            claims[at] = (*claims[at][:5], await self._pages(queue, task_id, carried))
        return reply._replace(claims=claims, paged=())

    async def _pages(self, queue: str, task_id: str, carried: int) -> list[bytes]:
        gather, values = self.keys_of(queue).gather, list[bytes]()
        page, bytes_left = 1, _PAGED_BYTES + 2 * self.client.access.reply_bytes
        while len(values) < carried:
            fields = [f"{task_id}:{at}" for at in range(len(values), min(len(values) + page, carried))]
            found = await self.client.redis.hmget(gather, fields)
            bytes_left -= sum(len(value or b"") for value in found)
            if None in found or bytes_left < 0:
                # What says how many there are may be anybody's: nothing is waited for, or held, on its word alone.
                problem = "are too large together" if bytes_left < 0 else "are not there"
                logger.warning("task %s of queue %s: the results that it waits for %s", task_id, queue, problem)
                return [b""]
            values += found
            # As many as go into a page by the size of the last ones.
            size = max(1, sum(map(len, found)) // len(found))
            page = max(1, min(2 * page, CHUNK, _PAGE_BYTES // size))
        return values

    @staticmethod
    def _packed(value: Sequence[Any]) -> bytes:
        return cast("bytes", msgpack.packb(value, use_bin_type=False)) if value else b""

    def _step_args(
        self,
        queue: str,
        options: QueueOptions,
        incarnation: str,
        slots: int,
        outcomes: Sequence[Outcome],
        busy_ms: int,
        done: Sequence[str],
    ) -> tuple[Any, ...]:
        limit, per_key = options.rate_limit, options.rate_limit_per_key
        return (
            incarnation, slots, int(options.lease_seconds * 1000), options.max_deliveries, TAKEOVERS_PER_STEP,
            options.dead_letter.max_length, int(options.dead_letter.ttl_seconds * 1000),
            self.keys_of(queue).done_channel, self._packed(outcomes),
            limit.tasks_per_second if limit else 0, limit.burst if limit else 0, busy_ms, self._packed(done),
            options.concurrency or 0, options.concurrency_per_key or 0,
            per_key.tasks_per_second if per_key else 0, per_key.burst if per_key else 0,
        )  # fmt: skip

    def _step_reply(self, queue: str, reply: list[Any]) -> StepReply:
        now_ms, left, horizon_ms, stale, claimed, inputs, signals, memory_full, gone, _ = reply
        self.clock.hear(queue, now_ms)
        partition = Partition(queue)
        found: list[Claim | None] = []
        for i in range(0, len(claimed), 3):
            meta = claimed[i + 2]
            attempt = delivery = 1
            if meta and (counts := _META.match(meta)):
                attempt, delivery = int(counts[1]), int(counts[2]) + 1
            try:
                task_id = claimed[i].decode()
            except UnicodeDecodeError:
                # Nobody of ours made it, so nobody can ack it: left to its leases, it becomes a dead letter.
                found.append(None)
                continue
            found.append((partition, task_id, claimed[i + 1], attempt, delivery, None))
        paged: list[tuple[Claim, int]] = []
        for i in range(0, len(inputs), 2):
            if claim := found[inputs[i]]:
                if pages := _PAGED.fullmatch(inputs[i + 1]):
                    paged.append((claim, int(pages[1])))
                else:
                    found[inputs[i]] = (*claim[:5], _results_of(inputs[i + 1]))
        claims = [claim for claim in found if claim] if None in found else cast("list[Claim]", found)
        taken_over = [_takeover(*gone[i : i + 5]) for i in range(0, len(gone), 5)] if gone else ()
        return StepReply(left, horizon_ms, len(stale), claims, signals, bool(memory_full), taken_over,
                         [(claims.index(claim), carried) for claim, carried in paged] if paged else ())  # fmt: skip

    async def owned(self, queue: str, incarnation: str) -> list[tuple[str, int]]:
        """(id, delivery) of every task that this incarnation has claimed, whether or not a reply has told it so."""
        found: list[tuple[str, int]] = []
        prefix = incarnation.encode() + b":"
        async for task_id, token in self.client.redis.hscan_iter(self.keys_of(queue).owner, count=CHUNK):
            if token.startswith(prefix) and _DELIVERY.fullmatch(delivery := token[len(prefix) :]):
                found.append((foreign.text(task_id), int(delivery)))
        return found

    async def unreadable(self, queue: str, ids: Sequence[str]) -> set[str]:
        """Those tasks whose claim, payload or results that they waited for, one reply may not hold here."""
        names = self.keys_of(queue).all
        found: set[str] = set()
        for task_id in ids:
            try:
                for key in (names[1], names[23]):
                    await self.client.redis.hget(key, task_id)
            except replies.TooLongError:
                found.add(task_id)
        return found

    async def status(self, queue: str, task_id: str, *, announce: bool = False) -> tuple[str, bytes]:
        """(state, result record or dead letter); with `announce` the task's end is published on the done channel."""
        names = self.keys_of(queue)
        state, data = await self._patiently(
            lambda: self.client.run(
                scripts.STATUS, (*names.all, names.result(task_id)), (task_id, "1" if announce else "0")
            )
        )
        return foreign.text(state), data

    async def progress(self, queue: str, task_id: str) -> bytes | None:
        """The stamped report of a task that has not ended."""
        key = self.keys_of(queue).progress
        record: bytes | None = await self._patiently(lambda: self.client.redis.hget(key, task_id))
        return record

    # Views.

    async def queues(self) -> list[str]:
        """The names of all queues that ever had a task."""
        return sorted({queue_of(name) for name in await self.partitions()})

    async def partitions(self, queue: str | None = None) -> list[str]:
        """The names of all partitions in Redis; with `queue`, of that queue: at least its first."""
        members = await self._patiently(lambda: self.client.redis.smembers(self.fleet.queues))
        names = self.places(members)
        if queue is not None:
            names = {name for name in names if queue_of(name) == queue} | {queue}
        return sorted(names)

    def places(self, members: Iterable[bytes]) -> set[str]:
        """The partitions among what is listed as such. One that is none would be other keys than its writer meant."""
        found: set[str] = set()
        for member in members:
            try:
                found.add(foreign.partition(member))
            except foreign.ForeignError as error:
                self.skipped.add("queue name", member, error)
        return found

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues, each the sum of its partitions."""
        if not queues:
            return {}
        names = {name for name in await self.partitions() if queue_of(name) in queues} | set(queues)
        calls = [(self.keys_of(name).all, (horizon_ms,)) for name in sorted(names)]
        told: list[Any] = []
        for start in range(0, len(calls), _FIGURES_TOGETHER):
            some = calls[start : start + _FIGURES_TOGETHER]
            told += await self._patiently(lambda some=some: self.client.run_many(scripts.STATS, some))
        parts: dict[str, list[QueueStats]] = {queue: [] for queue in queues}
        for name, reply in zip(sorted(names), told, strict=True):
            parts[queue_of(name)].append(QueueStats.of_reply(reply))
        return {queue: QueueStats.total(found) for queue, found in parts.items()}

    async def workers(self) -> list[WorkerInfo]:
        """The workers whose heartbeat has not expired."""

        async def read() -> list[WorkerInfo]:
            # The latest: nobody has so many.
            entries = await self.client.redis.zrange(self.fleet.workers, -_MOST_WORKERS, -1, withscores=True)
            found: list[WorkerInfo] = []
            for start in range(0, len(entries), _WORKERS_TOGETHER):
                some = entries[start : start + _WORKERS_TOGETHER]
                now_ms, hashes = await self._heartbeats([worker_id for worker_id, _ in some])
                told = zip(some, hashes, strict=True)
                found += [info for (who, beat), values in told if (info := self._worker_of(who, values, beat, now_ms))]
            return found

        found: list[WorkerInfo] = await self._patiently(read)
        return found

    async def _heartbeats(self, worker_ids: Sequence[bytes]) -> tuple[float, list[Any]]:
        """(now in ms, what each says of itself): one that is too large, or no hash, costs none of the others."""
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
            return None  # its heartbeat has expired
        try:
            if not isinstance(values, list):
                raise foreign.ForeignError(str(values))
            return WorkerInfo.of_values(worker_id, values, beat_ms, now_ms)
        except foreign.ForeignError as error:
            self.skipped.add("heartbeat", worker_id, error)
            return None

    async def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> AsyncIterator[tuple[str, bytes]]:
        """(id, packed dead letter), oldest first in each partition. One too large for a reply says so in its place."""
        for name in await self.partitions(queue):
            names = self.keys_of(name).all
            count = await self._patiently(lambda names=names: self.client.redis.zcard(names[6]))
            for first in range(offset, min(count, offset + limit), _LETTERS_TOGETHER):
                last = min(first + _LETTERS_TOGETHER, offset + limit) - 1
                ids: list[bytes] = await self._patiently(
                    lambda names=names, first=first, last=last: self.client.redis.zrange(names[6], first, last)
                )
                async for task_id, letter in self._letters(names[7], ids):
                    yield foreign.text(task_id), letter
            limit -= max(0, min(count - offset, limit))
            offset = max(0, offset - count)

    async def _letters(self, key: str, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
        """What is stored of them, about so much at a time as a call may have."""
        at, together = 0, 8
        while at < len(ids):
            some = ids[at : at + together]
            try:
                letters = await self._patiently(lambda some=some: self.client.redis.hmget(key, some))
            except ReplyTooLargeError:
                together = len(some) // 2
                if not together:
                    most = self.client.access.reply_bytes
                    yield some[0], dead_letter.unreadable_letter(f"it has more than the {most} bytes of one reply here")
                    at, together = at + 1, 1
                continue
            at += len(some)
            for task_id, letter in zip(some, letters, strict=True):
                if letter is not None:
                    yield task_id, letter
            together = max(1, bounds.CALL_BYTES // max(len(letter or b"-") for letter in letters))

    # Operations.

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put dead letters back; `None` means all of them."""
        moved = 0
        chunks = [list(ids[i:j]) for i, j, _ in bounds.windows(ids, _text_bytes)] if ids is not None else [[]]
        stay: list[tuple[str, str]] = []
        for name in await self.partitions(queue):
            names = self.keys_of(name).all
            passed, to_look_at = 0, None
            for chunk in chunks:
                rest = chunk
                while True:
                    most = _LETTERS_AT_ONCE if to_look_at is None else min(_LETTERS_AT_ONCE, to_look_at)
                    args = (self.fleet.activity, queue, most, msgpack.packb(rest), passed)
                    count, left, kept, looked = await self._patiently(
                        functools.partial(self.client.run, scripts.REQUEUE_DEAD, names, args)
                    )
                    moved += count
                    stay += [
                        (kept[i].decode("utf-8", "replace"), kept[i + 1].decode("utf-8", "replace"))
                        for i in range(0, len(kept), 2)
                    ]
                    if chunk:
                        rest = rest[looked:]
                        to_look_at = len(rest)
                    else:
                        # Those that there were at the first call: what dies again meanwhile comes behind them.
                        to_look_at = (count + left if to_look_at is None else to_look_at) - looked
                        passed += looked - count
                    if not looked or to_look_at <= 0:
                        break
                to_look_at = None
        warn_of_kept(queue, stay)
        return moved

    async def purge_dead(self, queue: str) -> int:
        dropped = 0
        for name in await self.partitions(queue):
            names = self.keys_of(name).all
            left = 1
            while left:
                count, left, signals = await self._patiently(
                    lambda names=names: self.client.run(scripts.PURGE_DEAD, names, (_LETTERS_AT_ONCE,))
                )
                dropped += count
                if signals:
                    await self.relay(name)
        return dropped

    async def purge(self, queue: str) -> int:
        """Drop everything that waits; returns how many tasks that were."""
        dropped = 0
        for name in await self.partitions(queue):
            names = self.keys_of(name)
            left = 1
            while left:
                count, left, signals = await self._patiently(
                    lambda names=names: self.client.run(
                        scripts.PURGE, names.all, (CHUNK, "its queue was purged", names.done_channel)
                    )
                )
                dropped += count
                if signals:
                    await self.relay(name)
        return dropped

    async def pause(self, queue: str) -> None:
        for name in await self.partitions(queue):
            await self._patiently(lambda name=name: self.client.redis.hset(self.keys_of(name).control, "paused", 1))

    async def resume(self, queue: str) -> None:
        for name in await self.partitions(queue):
            names = self.keys_of(name)
            await self._patiently(lambda names=names: self.client.redis.hdel(names.control, "paused"))
            await self._patiently(lambda names=names: self.client.redis.rpush(names.wake, 1))
            await self._patiently(lambda names=names: self.client.redis.pexpire(names.wake, 60_000))

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete everything that belongs to these queues, results included."""
        for queue in [name for name in await self.partitions() if queue_of(name) in queues]:
            names = self.keys_of(queue)
            await self._patiently(lambda names=names: self.client.redis.unlink(*names.all, *names.schedules))
            found: list[bytes] = []
            async for key in self.client.scan(_literal(names.result("")) + "*", count=CHUNK):
                found.append(key)
                if len(found) >= CHUNK:
                    await self.client.redis.unlink(*found)
                    found.clear()
            if found:
                await self.client.redis.unlink(*found)
            await self._patiently(lambda queue=queue: self.client.redis.srem(self.fleet.queues, queue))
            self._known_until.pop(queue, None)

    # The fleet.

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        """Tell the worker of that name to stop claiming; it reports `drained` when it is empty."""
        await self._patiently(lambda: self.client.redis.set(self.fleet.cordon(name), 1, px=int(ttl_seconds * 1000)))
        await self._patiently(lambda: self.client.redis.publish(self.fleet.control_channel, f"cordon {name}"))

    async def uncordon(self, name: str) -> None:
        await self._patiently(lambda: self.client.redis.delete(self.fleet.cordon(name)))
        await self._patiently(lambda: self.client.redis.publish(self.fleet.control_channel, f"cordon {name}"))

    async def wait_for_work(self, queues: Sequence[str], timeout: float) -> str | None:
        """Block until one of these partitions calls for a worker; `None` after `timeout` s. Errors pass through.

        Only one where `one_slot_only`.
        """
        wakes = {self.keys_of(queue).wake: queue for queue in queues}
        popped = await self.client.blocking_pop(list(wakes), timeout)
        return None if popped is None else wakes[popped[0]]

    async def call_another(self, queue: str) -> None:
        """Pass a call for a worker on to the next that waits."""
        wake = self.keys_of(queue).wake
        await self.client.redis.rpush(wake, 1)
        await self.client.redis.pexpire(wake, 60_000)

    async def deregister(self, worker_id: str) -> None:
        await self.client.redis.zrem(self.fleet.workers, worker_id)
        await self.client.redis.delete(self.fleet.worker(worker_id))

    def control(self) -> AsyncIterator[str]:
        """What workers are told: `cancel ID`, `cordon NAME`; empty when something may have been missed."""
        return self.listen(self.fleet.control_channel)

    def endings(self, queue: str) -> AsyncIterator[str]:
        """The ids of tasks of a partition that end and that somebody waits for; an empty string as in `control`."""
        return self.listen(self.keys_of(queue).done_channel)

    def activity(self) -> AsyncIterator[str]:
        """The names of queues that go from empty to not empty, as it happens; survives lost connections."""
        return self.listen(self.fleet.activity)

    def listen(self, *channels: str) -> AsyncIterator[str]:
        """Messages on `channels`, for ever. An empty string says that messages may have been missed: look yourself."""
        return self.client.listen(*channels)

    async def _patiently(self, operation: Any, call_bytes: int = 0) -> Any:
        return await self.patiently(operation, call_bytes)

    async def patiently(self, operation: Any, call_bytes: int = 0) -> Any:
        """What `operation()` returns; it is tried again while that may help. Errors: `BrokerConnectionError`."""
        try:
            return await self.client.patiently(lambda _attempt: operation(), call_bytes)
        except BrokerConnectionError as error:
            if "WRONGTYPE" in str(error) and (told := await misfits.explain(self)):
                raise BrokerConnectionError(f"Redis at {connection.address(self.url)}: {told}") from None
            raise


def _results_of(packed: bytes) -> list[bytes]:
    """The results that a task waited for; what is damaged stays so, and whoever reads the task will say it."""
    try:
        return unpacking.texts(packed)
    except SerializationError:
        return [packed[:1]]


def _text_bytes(text: str) -> int:
    return 4 * len(text)


def _literal(text: str) -> str:
    """`text` as a glob pattern that matches itself."""
    return "".join(f"\\{c}" if c in "*?[]^-\\" else c for c in text)


def _takeover(task_id: bytes, attempt: int, crashes: int, dead: int, head: bytes) -> Takeover:
    return Takeover.of_head(task_id.decode("utf-8", "replace"), head, attempt, crashes, bool(dead))
