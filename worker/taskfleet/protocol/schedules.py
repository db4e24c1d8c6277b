"""Schedules as they are stored, and the ticks that a scheduler lets happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import msgpack

from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition

NO_STATE = b""


class TickPosition(NamedTuple):
    """A position in the order of ticks: how many schedules stand up to there, and the name of the last of these."""

    looked_at: int
    name: bytes


START = TickPosition(0, b"")


@dataclass(frozen=True, slots=True)
class Entry:
    """One schedule as it is stored, in a partition of its queue.

    `spec` and `state` are messagepack (scheduling/record.py); times are milliseconds by the clock of Redis. `tick_ms`
    is `None` when it is paused, or will not tick any more.
    """

    partition: Partition
    name: str
    spec: bytes
    state: bytes
    tick_ms: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """What of one queue is due at `now_ms`; `later_ms` is its first tick that is not, `more` says that some is left.

    `reached` is the position of the last that was looked at, to go on from.
    """

    partition: Partition
    now_ms: int
    later_ms: int | None
    entries: tuple[Entry, ...]
    more: bool
    reached: TickPosition


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick to let happen: what was read (`entry`, `revision`), and what to make of it.

    `fire_ms` and `next_ms` may be `None`: nothing to fire, nothing to wait for any more.
    `replaces` is the id of a waiting task that may be replaced, or empty.
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
    """What became of a tick: fired, skipped, dropped, stale, early, full, or name (`named` is in the way).

    `signals`: how many stand in the outbox of the queue, to be relayed.
    """

    result: str
    named: str
    signals: int
