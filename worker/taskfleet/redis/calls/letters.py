"""Calls that discard some dead letters, and bring them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.keys import QueueKeys


class DiscardReply(NamedTuple):
    """`looked_at` of the ids; `jobs` that remain to be drained."""

    looked_at: int
    deleted: int
    held: int
    held_bytes: int
    jobs: int


def discard(
    keys: QueueKeys, job: str, ids: Sequence[str], *, hold_ms: int, room: int, room_bytes: int
) -> ScriptCall[DiscardReply]:
    """Delete these dead letters, and hold as many as there is room for, under the name of a job."""
    args = (msgpack.packb(list(ids)), hold_ms, room, room_bytes)
    return ScriptCall(scripts.DISCARD_DEAD, (*keys, keys.held(job)), args, lambda reply: DiscardReply(*reply))


class RestoreReply(NamedTuple):
    """`taken` of the held letters, of which `left` are to be restored."""

    restored: int
    taken: int
    left: int


def restore(keys: QueueKeys, job: str, *, most: int) -> ScriptCall[RestoreReply]:
    """Bring held letters of a job back."""
    args = (most,)
    return ScriptCall(scripts.RESTORE_DEAD, (*keys, keys.held(job)), args, lambda reply: RestoreReply(*reply))
