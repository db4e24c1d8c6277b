"""The calls of the doctor's scripts: `lua/doctor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import msgpack

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.keys import QueueKeys

R = TypeVar("R")
Twice = tuple[bytes, int, int]
"""An id, and two places before the anchor where it was seen."""


class Page(NamedTuple):
    """`looked_at` members, of `bytes` in all; `others` are ready or lost tasks, schedules without a tick, or edges."""

    cursor: bytes
    looked_at: int
    bytes: int
    faults: list[Fault]
    others: list[Any]


class Anchor(NamedTuple):
    """The last `covered` places of the ready list up to this id, its tail at a call, were looked at."""

    task_id: bytes = b""
    history: bytes = b""
    covered: int = 0


class LinePage(NamedTuple):
    """`ids` of the ready list: the first `paged` are before all others, the rest has come to its tail.

    `left` places are before them; `gone` of the ids have no task. The `stamp` changes whenever the list does; `removed`
    is the number of ids without a task that is counted.
    """

    anchor: Anchor
    left: int
    ids: list[bytes]
    paged: int
    faults: list[Fault]
    gone: int
    stamp: bytes
    removed: int


class Lost(NamedTuple):
    """The faults of the first `ids` and `pairs`, as many as one call could look for."""

    faults: list[Fault]
    ids: int
    pairs: int


class Waiting(NamedTuple):
    """What a blocked task waits for. Its first `carried` positions take results; those of a `wide` one are not read."""

    task_id: bytes
    pending: int
    carried: int
    confirmed: int
    missing: list[int]
    wide: int


class Whole(NamedTuple):
    """`long_line`, `many_running`: the ready list, or the running tasks, are too many to be counted in one call."""

    faults: list[Fault]
    long_line: bool
    many_running: bool


def _call(name: str, keys: QueueKeys, args: Sequence[Any], read: Callable[[Any], R]) -> ScriptCall[R]:
    return ScriptCall(scripts.DOCTOR[name], (*keys, *keys.schedules), args, read)


def _faults(partition: Partition, part: str, flat: Sequence[bytes]) -> list[Fault]:
    return [
        Fault(foreign.text(code), partition, part, member, foreign.text(evidence))
        for code, member, evidence in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]


def members(keys: QueueKeys, partition: Partition, part: str, cursor: bytes, count: int) -> ScriptCall[Page]:
    """Check about `count` members of a structure."""

    def read(reply: list[Any]) -> Page:
        following, looked_at, size, faults, others = reply
        return Page(following, looked_at, size, _faults(partition, part, faults), others)

    return _call("members", keys, (part, cursor, count), read)


def line(keys: QueueKeys, partition: Partition, anchor: Anchor, count: int) -> ScriptCall[LinePage | None]:
    """Look at the next `count` places of the ready list, towards its head, and at all that has come to its tail.

    `None` when it has changed too much: the look must begin again.
    """

    def read(reply: list[Any]) -> LinePage | None:
        over, task_id, history, covered, left, ids, paged, faults, gone, stamp, removed = reply
        found = _faults(partition, "ready", faults)
        return (
            None if over else LinePage(Anchor(task_id, history, covered), left, ids, paged, found, gone, stamp, removed)
        )

    return _call("line", keys, (*anchor, count), read)


def lost(
    keys: QueueKeys, partition: Partition, unseen: Sequence[bytes], twice: Sequence[Twice], anchor: Anchor
) -> ScriptCall[Lost | None]:
    """Which of these tasks are in no structure, and which are twice in the ready list, after a look through all of it.

    `None` when it has changed too much since.
    """

    def read(reply: list[Any]) -> Lost | None:
        over, faults, ids, pairs = reply
        return None if over else Lost(_faults(partition, "task", faults), ids, pairs)

    pairs = cast("bytes", msgpack.packb(list(twice), use_bin_type=False))
    return _call("lost", keys, (_packed(unseen), pairs, *anchor), read)


def edges(keys: QueueKeys, part: str, cursor: bytes, count: int) -> ScriptCall[Page]:
    """About `count` members of `tag` or `edges`: their edges, as (partition, id, position)."""

    def read(reply: list[Any]) -> Page:
        following, looked_at, size, found = reply
        return Page(following, looked_at, size, [], found)

    return _call("edges", keys, (part, cursor, count), read)


def waiting(keys: QueueKeys, ids: Sequence[bytes]) -> ScriptCall[tuple[int, list[Waiting]]]:
    """What these blocked tasks wait for: (number of examined ids, those that are blocked)."""
    return _call("waiting", keys, (_packed(ids),), lambda reply: (reply[0], [Waiting(*each) for each in reply[1]]))


def whole(keys: QueueKeys, partition: Partition, *, repair: bool) -> ScriptCall[Whole]:
    """Check what only a look at a whole partition tells; with `repair`, repair it in the same call."""

    def read(reply: list[Any]) -> Whole:
        faults, long_line, many_running = reply
        return Whole(_faults(partition, "whole", faults), bool(long_line), bool(many_running))

    return _call("whole", keys, (int(repair),), read)


def mend(keys: QueueKeys, fault: Fault) -> ScriptCall[int]:
    """Repair one fault if it is still there. 1: repaired, 0: it was not there any more, -1: nothing can be done."""
    return _call("mend", keys, (fault.part, fault.member, fault.code, fault.detail), int)


def _packed(ids: Sequence[bytes]) -> bytes:
    return cast("bytes", msgpack.packb(list(ids), use_bin_type=False))
