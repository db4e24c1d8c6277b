"""Stored schedules, and the ticks that a scheduler performs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import msgpack

from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition

NO_STATE = b""


class TickPosition(NamedTuple):
    """A position in the order of ticks: the number of schedules up to it, and the name of the last of these."""

    looked_at: int
    name: bytes


START = TickPosition(0, b"")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored schedule, in a partition of its queue.

    `spec` and `state` are messagepack (scheduling/record.py); times are milliseconds by the clock of Redis. `tick_ms`
    is `None` when it is paused, or has no further tick.
    """

    partition: Partition
    name: str
    spec: bytes
    state: bytes
    tick_ms: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """The due schedules of one queue at `now_ms`. `later_ms` is its first later tick; `more` means that some are left.

    `reached` is the position of the last examined schedule, from which to continue.
    """

    partition: Partition
    now_ms: int
    later_ms: int | None
    entries: tuple[Entry, ...]
    more: bool
    reached: TickPosition


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick to perform: the schedule that was read (`entry`, `revision`), and the decision about it.

    `fire_ms` and `next_ms` may be `None`: no tick to fire, no further tick. `replaces` is the id of a waiting task that
    may be replaced, or empty.
    """

    entry: Entry
    revision: str
    fire_ms: int | None
    next_ms: int | None
    dropped: bool
    task_id: str
    envelope: bytes
    delay_ms: int
    extras: Extras  # its keys
    replaces: str
    max_length: int

    def packed_task(self) -> bytes:
        """The task to add, as lua/tick.lua reads it."""
        parts = (self.task_id, self.envelope, self.delay_ms, self.extras.key_letters())
        return cast("bytes", msgpack.packb(parts, use_bin_type=False))


class TickReply(NamedTuple):
    """The result of a tick: fired, skipped, dropped, stale, early, full, or name (`named` prevents it).

    `signals`: the number of signals in the outbox of the queue, to be relayed.
    """

    result: str
    named: str
    signals: int
