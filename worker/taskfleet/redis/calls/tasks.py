"""Calls on tasks: enqueue, step, status, progress, cancel, and the two calls of the lease thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgpack

from taskfleet import foreign
from taskfleet.errors import SerializationError
from taskfleet.protocol import unpacking
from taskfleet.protocol.claim import TAKEOVERS_PER_STEP, Claim, HeldTask, Renewal, StepReply, Takeover
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.introductions import KEPT_SECONDS
from taskfleet.protocol.item import Item, pack_items
from taskfleet.protocol.outcome import (
    OUTCOME_ID,
    OUTCOME_RESULT,
    OUTCOME_TTL_MS,
    SUCCEEDED,
    Outcome,
)
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.progress_report import ProgressReport
from taskfleet.protocol.status import TaskStatus
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall, texts
from taskfleet.redis.keys import FleetKeys, QueueKeys
from taskfleet.redis.packing import pack

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

# Of a task that is not on its first try: attempt, deliveries, crashes, the time when it became ready.
_META = re.compile(rb"(\d{1,15}):(\d{1,15}):(?:\d{1,15}:(\d{1,15})$)?")
_PAGED = re.compile(rb"[\xa0-\xbf](\d{1,9}) of \d{1,9} in pages")


class EnqueueReply(NamedTuple):
    """`holders`: for each position that was not added, the task that has its unique key.

    With `waiting` tasks the queue has no room, and no task was added.
    """

    holders: dict[int, str]
    signals: int
    waiting: int | None = None


def enqueue(
    keys: QueueKeys,
    fleet: FleetKeys,
    partition: Partition,
    items: Sequence[Item],
    *,
    max_length: int,
    total: int,
    sender: str,
    number: int,
) -> ScriptCall[EnqueueReply]:
    """`number` counts the calls of a sender, so that a call that is sent twice adds its tasks once.

    `total` is the number of tasks that need room, of which these are the first.
    """
    replaced = [keys.result(extras.replaces) for *_, extras in items if extras is not None and extras.replaces]
    args = (
        fleet.activity, queue_of(partition), max_length, total, pack_items(items), number, keys.done_channel
    )  # fmt: skip
    return ScriptCall(scripts.ENQUEUE, (*keys, keys.sender(sender), *replaced), args, _enqueue_reply)


AT_ONCE_BYTES = 10_000
"""A larger envelope is marked as large in its queue, which takes an ordinary call."""


class AtOnce:
    """Calls that add one task which is ready at once, packed: all but its id and envelope is packed only once."""

    __slots__ = ("_done", "_head")

    def __init__(self, keys: QueueKeys, fleet: FleetKeys, partition: Partition, sender: str) -> None:
        names = (*keys, keys.sender(sender))
        fixed = ("EVALSHA", scripts.ENQUEUE.digest, len(names), *names, fleet.activity, queue_of(partition), 0, 1, "")
        packed = pack(*fixed)
        # The number of all parts comes first: five follow these.
        self._head = b"*%d" % (len(fixed) + 5) + packed[packed.index(b"\r\n") :]
        done = keys.done_channel.encode()
        self._done = b"\r\n$%d\r\n%b\r\n" % (len(done), done)

    def packed(self, number: int, task_id: str, envelope: bytes) -> bytes:
        """The call; `number` counts the calls of the sender."""
        text, name = b"%d" % number, task_id.encode()
        # As lua/enqueue.lua keeps it: the number, and the reply {1, {}, 0}.
        return b"%b$%d\r\n%b%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n\x92%c%b\x93\x01\x90\x00\r\n" % (
            self._head, len(text), text, self._done, len(name), name, len(envelope), envelope, len(text) + 6,
            0xA0 | len(text), text,
        )  # fmt: skip


def _enqueue_reply(reply: list[Any]) -> EnqueueReply:
    added, found, *rest = reply
    if added < 0:
        return EnqueueReply({}, 0, waiting=found)
    holders = {found[i]: foreign.text(found[i + 1]) for i in range(0, len(found), 2)} if found else {}
    return EnqueueReply(holders, rest[0] if rest else 0)


class OutcomeBatch:
    """The outcomes of one step call. After a call that recorded a part of them, it holds the rest.

    Most outcomes are of first deliveries that succeeded without a result to keep. Such a task is sent as its id alone.
    """

    __slots__ = ("_busy_ms", "_done", "_others")

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        # Local names in the loop: it runs for every task.
        done: list[str] = []
        others: list[Outcome] = []
        busy_of_done = 0
        for outcome in outcomes:
            task_id, delivery, code, busy_ms, result, _, _ = outcome
            if code == SUCCEEDED and delivery == 1 and not result:
                done.append(task_id)
                busy_of_done += busy_ms
            else:
                others.append(outcome)
        self._done, self._others, self._busy_ms = done, others, busy_of_done

    def recorded(self, done: int, others: int) -> None:
        """Remove the outcomes that are recorded: a number of each kind."""
        self._done, self._others, self._busy_ms = self._done[done:], self._others[others:], 0

    def result_keys(self, keys: QueueKeys) -> list[str]:
        """The result keys of the outcomes whose result is kept, in order."""
        return [
            keys.result(outcome[OUTCOME_ID])
            for outcome in self._others
            if outcome[OUTCOME_RESULT] and outcome[OUTCOME_TTL_MS]
        ]

    def packed(self) -> tuple[bytes, int, bytes]:
        """The other outcomes, the busy time (ms) of the ids, and the ids of tasks that are only done."""
        return _packed(self._others), self._busy_ms, _packed(self._done)


def _packed(value: Sequence[Any]) -> bytes:
    return cast("bytes", msgpack.packb(value, use_bin_type=False)) if value else b""


def step(
    keys: QueueKeys,
    partition: Partition,
    options: QueueOptions,
    *,
    incarnation: str,
    slots: int,
    outcomes: OutcomeBatch | None = None,
) -> ScriptCall[StepCallReply]:
    """Record outcomes and claim up to `slots` tasks."""
    others, busy_ms, done = outcomes.packed() if outcomes is not None else (b"", 0, b"")
    limit, per_key, letters = options.rate_limit, options.rate_limit_per_key, options.dead_letter
    args = (
        incarnation, slots, int(options.lease_seconds * 1000), options.max_deliveries, TAKEOVERS_PER_STEP,
        letters.max_length, int(letters.ttl_seconds * 1000), keys.done_channel, others,
        limit.tasks_per_second if limit else 0, limit.burst if limit else 0, busy_ms, done,
        options.concurrency or 0, options.concurrency_per_key or 0,
        per_key.tasks_per_second if per_key else 0, per_key.burst if per_key else 0, keys.ended_channel,
    )  # fmt: skip
    results = outcomes.result_keys(keys) if outcomes is not None else None
    script_keys = (*keys, *results) if results else keys
    return ScriptCall(scripts.STEP, script_keys, args, lambda reply: _step_reply(partition, reply))


class StepCallReply(NamedTuple):
    """The reply to one of the calls of a step.

    `recorded`: the number of processed outcomes of both kinds, when not all were processed. `paged`: claims by position
    whose results are too many for a reply, with their number.
    """

    now_ms: int
    reply: StepReply
    recorded: tuple[int, int] | None
    paged: Sequence[tuple[int, int]]


def _step_reply(partition: Partition, reply: list[Any]) -> StepCallReply:
    now_ms, left, horizon_ms, stale, claimed, inputs, signals, memory_full, gone, looked_at, unknown = reply
    found: list[Claim | None] = []
    parts = iter(claimed)
    for name, blob, meta in zip(parts, parts, parts, strict=False):
        attempt = delivery = 1
        ready_ms = 0
        if meta and (counts := _META.match(meta)):
            attempt, delivery, ready_ms = int(counts[1]), int(counts[2]) + 1, int(counts[3] or 0)
        try:
            found.append((partition, name.decode(), blob, attempt, delivery, None, ready_ms))
        except UnicodeDecodeError:
            # Taskfleet cannot have made this id, so no worker can ack it. Its leases expire, and it becomes a dead
            # letter.
            found.append(None)
    pages: dict[int, int] = {}
    for i in range(0, len(inputs), 2):
        at, packed = inputs[i], inputs[i + 1]
        if claim := found[at]:
            if many := _PAGED.fullmatch(packed):
                pages[at] = int(many[1])
            else:
                _, task_id, blob, attempt, delivery, _, ready_ms = claim
                found[at] = (partition, task_id, blob, attempt, delivery, results_of(packed), ready_ms)
    claims: list[Claim] = found  # type: ignore[assignment]
    if None in found:
        claims = [claim for claim in found if claim]
    paged = [(at - found[:at].count(None), carried) for at, carried in pages.items()] if pages else ()
    taken_over = [_takeover(*gone[i : i + 5]) for i in range(0, len(gone), 5)] if gone else ()
    step_reply = StepReply(left, horizon_ms, len(stale), claims, signals, bool(memory_full), taken_over, unknown)
    return StepCallReply(now_ms, step_reply, (looked_at[0], looked_at[1]) if looked_at else None, paged)


def results_of(packed: bytes) -> list[bytes]:
    """The results that a task waited for. Damaged results are found when the task is read."""
    try:
        return unpacking.texts(packed)
    except SerializationError:
        return [packed[:1]]


def _takeover(task_id: bytes, attempt: int, crashes: int, dead: int, head: bytes) -> Takeover:
    return Takeover.of_head(task_id.decode("utf-8", "replace"), head, attempt, crashes, bool(dead))


def status(keys: QueueKeys, task_id: str, *, announce: bool) -> ScriptCall[TaskStatus]:
    """The state of a task; with `announce` its end is published on the done channel."""
    return ScriptCall(scripts.STATUS, (*keys, keys.result(task_id)), (task_id, int(announce)), task_status)


def task_status(reply: list[Any]) -> TaskStatus:
    state, record = reply
    return TaskStatus(foreign.text(state), record)


def cancel(
    keys: QueueKeys, fleet: FleetKeys, task_id: str, *, record: bytes, ttl_ms: int, reason: str
) -> ScriptCall[CancelReply]:
    """Cancel a task: a waiting task at once, with `record` as its result, and a running task through its worker."""
    args = (task_id, record, ttl_ms, fleet.control_channel, keys.done_channel, reason)
    return ScriptCall(scripts.CANCEL, (*keys, keys.result(task_id)), args, _cancel_reply)


class CancelReply(NamedTuple):
    changed: bool
    signals: int


def _cancel_reply(reply: list[int]) -> CancelReply:
    changed, signals = reply
    return CancelReply(bool(changed), signals)


def progress(keys: QueueKeys, incarnation: str, reports: Sequence[ProgressReport]) -> ScriptCall[list[str]]:
    """Store reports of running tasks. The reply: the ids of tasks that were taken from it."""
    return ScriptCall(scripts.PROGRESS, keys, (incarnation, _packed(reports)), texts)


def renew(
    keys: QueueKeys, incarnation: str, held: Sequence[HeldTask], *, lease_ms: int, busy_ms: int
) -> ScriptCall[Renewal]:
    """Renew leases with their fencing tokens; `busy_ms` is added to the counter of the queue."""
    return ScriptCall(scripts.RENEW, keys, (incarnation, lease_ms, busy_ms, msgpack.packb(held)), _renewal)


def _renewal(reply: list[list[bytes]]) -> Renewal:
    return Renewal(*map(texts, reply))


def heartbeat(fleet: FleetKeys, worker_id: str, name: str, *, ttl_ms: int, fields: HeartbeatFields) -> ScriptCall[bool]:
    """Report that a worker is alive. The reply: whether it is cordoned."""
    flat = [part for pair in fields._asdict().items() for part in pair]
    keys = (
        fleet.workers, fleet.worker(worker_id), fleet.cordon(name), fleet.who(fields.incarnation), fleet.hold(name),
    )  # fmt: skip
    return ScriptCall(scripts.HEARTBEAT, keys, (worker_id, ttl_ms, int(KEPT_SECONDS * 1000), *flat), bool)
