"""Calls on schedules: add, remove, list, due, tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from taskfleet import foreign
from taskfleet.protocol import result_record
from taskfleet.protocol.due import TickPosition
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Seal
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.keys import FleetKeys, QueueKeys

if TYPE_CHECKING:
    from taskfleet.protocol.schedules import Tick, TickReply

CHANGED = -1  # the reply of `add`, when another spec than the given one is there


def add(
    keys: QueueKeys, fleet: FleetKeys, name: str, spec: bytes, next_ms: int, instead_of: bytes = b""
) -> ScriptCall[int | None]:
    """Add or replace a schedule. The reply is the next tick in ms, which stays the same if the timing is the same.

    With `instead_of`, only that spec is replaced; otherwise the reply is -1.
    """
    schedules, ticks, _ = keys.schedules
    args = (name, spec, next_ms, fleet.schedules_channel, instead_of)
    return ScriptCall(scripts.SCHEDULE_ADD, (schedules, ticks), args, lambda reply: reply[0] if reply else None)


class Removed(NamedTuple):
    spec: bytes
    tick_ms: int | None


def remove(keys: QueueKeys, name: str) -> ScriptCall[Removed | None]:
    return ScriptCall(scripts.SCHEDULE_REMOVE, keys.schedules, (name,), _removed)


def _removed(reply: list[Any]) -> Removed | None:
    if not reply:
        return None
    spec, tick_ms = reply
    return Removed(spec, tick_ms if tick_ms >= 0 else None)


class StoredSchedule(NamedTuple):
    """A schedule as Redis stores it; `tick` is empty when it is paused."""

    name: bytes
    spec: bytes
    state: bytes
    tick: bytes | int


class SchedulePage(NamedTuple):
    cursor: bytes  # 0 on the last page
    schedules: list[StoredSchedule]
    bytes: int


def page(keys: QueueKeys, cursor: bytes, count: int) -> ScriptCall[SchedulePage]:
    """About `count` schedules in no order. A schedule that exists throughout the listing is in one page or in two."""
    return ScriptCall(scripts.SCHEDULE_LIST, keys.schedules, (cursor, count), _page)


def _page(reply: list[Any]) -> SchedulePage:
    cursor, flat = reply
    found = [StoredSchedule(*flat[i : i + 4]) for i in range(0, len(flat), 4)]
    return SchedulePage(cursor, found, sum(map(len, flat)))


class DueReply(NamedTuple):
    """`later_ms` is the first tick that is not due yet; `more` means that further schedules are due after `reached`."""

    now_ms: int
    later_ms: int | None
    schedules: list[StoredSchedule]
    more: bool
    reached: TickPosition


def due(keys: QueueKeys, *, limit: int, past: TickPosition) -> ScriptCall[DueReply]:
    """At most `limit` due schedules after `past`, if the same schedule is still at that position."""
    return ScriptCall(scripts.SCHEDULE_DUE, keys.schedules, (limit, *past), _due)


def _due(reply: list[Any]) -> DueReply:
    now_ms, later_ms, flat, more, looked_at, last = reply
    found = [
        StoredSchedule(name, spec, state, tick)
        for name, tick, spec, state in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    ]
    later = later_ms if 0 <= later_ms <= foreign.LAST_MS else None
    return DueReply(now_ms, later, found, bool(more), TickPosition(looked_at, last))


def tick(keys: QueueKeys, fleet: FleetKeys, tick: Tick, seal: Seal) -> ScriptCall[TickReply]:
    """Perform one tick. `seal` seals the record of the task that it replaces."""
    entry = tick.entry
    queue = queue_of(entry.partition)
    replaced = [keys.result(tick.replaces)] if tick.replaces else []
    reason = f"replaced by the next tick of schedule {entry.name!r}"
    record = result_record.pack_cancelled(reason)
    if tick.replaces:
        record = seal.close("result", queue, tick.replaces, record)
    args = (
        fleet.activity, queue, tick.max_length, fleet.control_channel, keys.done_channel,
        entry.name, tick.revision, entry.tick_ms, tick.next_ms or 0, tick.fire_ms or 0,
        tick.packed_task(), tick.replaces, record, result_record.CANCELLED_TTL_MS, reason, int(tick.dropped),
    )  # fmt: skip
    return ScriptCall(scripts.TICK, (*keys, *keys.schedules, *replaced), args, _tick_reply)


def _tick_reply(reply: Sequence[Any]) -> TickReply:
    from taskfleet.protocol.schedules import TickReply  # only here: most fleets have no schedule

    result, detail = reply
    if isinstance(detail, int):
        return TickReply(foreign.text(result), "", detail)
    return TickReply(foreign.text(result), foreign.text(detail), 0)
