"""Calls on whole partitions: stats, purge, and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.keys import FleetKeys, QueueKeys

if TYPE_CHECKING:
    from taskfleet.protocol.stats import QueueStats

_LETTERS_AT_ONCE = 500


def stats(keys: QueueKeys, *, horizon_ms: int, soon_ms: int = 0) -> ScriptCall[QueueStats]:
    """The figures of one partition. A delayed task counts as due when its time is within a horizon."""
    from taskfleet.protocol.stats import QueueStats  # only here: a worker reads no figures

    return ScriptCall(scripts.STATS, (*keys, keys.schedules.ticks), (horizon_ms, soon_ms), QueueStats.of_reply)


class PurgeReply(NamedTuple):
    """`signals`: the number of signals in the outbox, or of jobs that remain to be drained."""

    dropped: int
    left: int
    signals: int


def purge(keys: QueueKeys) -> ScriptCall[PurgeReply]:
    """Delete waiting tasks, up to a bounded number."""
    args = (CHUNK, "its queue was purged", keys.done_channel)
    return ScriptCall(scripts.PURGE, keys, args, _purge_reply)


def purge_dead(keys: QueueKeys) -> ScriptCall[PurgeReply]:
    """Delete dead letters, up to a bounded number."""
    return ScriptCall(scripts.PURGE_DEAD, keys, (_LETTERS_AT_ONCE,), _purge_reply)


def _purge_reply(reply: list[int]) -> PurgeReply:
    return PurgeReply(*reply)


class RequeueReply(NamedTuple):
    """`stay`: letters that were not requeued, each with the task that has its unique key, or ''."""

    moved: int
    left: int
    stay: list[tuple[str, str]]
    looked_at: int


def requeue_dead(
    keys: QueueKeys, fleet: FleetKeys, partition: Partition, ids: Sequence[str], *, passed: int, most: int | None
) -> ScriptCall[RequeueReply]:
    """Requeue dead letters: those of `ids`, or at most `most` of the oldest after the first `passed`."""
    at_once = _LETTERS_AT_ONCE if most is None else min(_LETTERS_AT_ONCE, most)
    args = (fleet.activity, queue_of(partition), at_once, msgpack.packb(ids), passed)
    return ScriptCall(scripts.REQUEUE_DEAD, keys, args, _requeue_reply)


def _requeue_reply(reply: list[Any]) -> RequeueReply:
    moved, left, flat, looked_at = reply
    ids = [each.decode("utf-8", "replace") for each in flat]
    return RequeueReply(moved, left, list(zip(ids[::2], ids[1::2], strict=True)), looked_at)
