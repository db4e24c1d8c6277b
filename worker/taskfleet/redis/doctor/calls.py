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


class Page(NamedTuple):
    """`looked_at` members, of `bytes` in all; `others` are ready or lost tasks, schedules without a tick, or edges."""

    cursor: bytes
    looked_at: int
    bytes: int
    faults: list[Fault]
    others: list[Any]


class LinePage(NamedTuple):
    """A page of the ready list that begins at the place `first`; `gone` of its ids have no task.

    The `stamp` changes whenever the list does; `removed` is the number of ids without a task that is counted.
    """

    first: int
    ids: list[bytes]
    faults: list[Fault]
    gone: int
    stamp: bytes
    removed: int


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
    return ScriptCall(scripts.read(f"doctor/{name}"), (*keys, *keys.schedules), args, read)


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


def line(keys: QueueKeys, partition: Partition, last: int, count: int) -> ScriptCall[LinePage]:
    """Look at `count` places of the ready list, up to the place `last`, or to its tail for -1."""

    def read(reply: list[Any]) -> LinePage:
        first, ids, faults, gone, stamp, removed = reply
        return LinePage(first, ids, _faults(partition, "ready", faults), gone, stamp, removed)

    return _call("line", keys, (last, count), read)


def lost(keys: QueueKeys, partition: Partition, ids: Sequence[bytes]) -> ScriptCall[tuple[int, list[Fault]]]:
    """Which of these tasks are in no structure, or twice in the ready list: (number of examined ids, faults)."""

    def read(reply: list[Any]) -> tuple[int, list[Fault]]:
        looked_at, faults = reply
        return looked_at, _faults(partition, "task", faults)

    return _call("lost", keys, (_packed(ids),), read)


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
