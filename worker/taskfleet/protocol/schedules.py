"""Stored schedules, and the ticks that a scheduler performs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgpack

from taskfleet import foreign
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol import unpacking
from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition

_STATE_BYTES = 4096


@contextlib.contextmanager
def decoding() -> Generator[None]:
    """Any error of the block becomes a `SerializationError`: Taskfleet has not written the stored bytes."""
    try:
        yield
    except (ConfigurationError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise SerializationError(f"the schedule is damaged: {error!s:.200}") from None


class SpecHead(NamedTuple):
    """The first fields of a packed spec, which the brokers read. scheduling/record.py packs and unpacks all fields."""

    version: int
    revision: str
    timing: str  # the identity of the timing
    policy: str
    envelope: bytes
    paused: bool

    @classmethod
    def of_packed(cls, packed: bytes) -> SpecHead:
        """Decode the first fields. Errors: `SerializationError`."""
        # Two containers: the list itself, and the map of its keys.
        fields = unpacking.record(packed, most_bytes=len(packed), containers=2)
        with decoding():
            version, revision, timing, policy, envelope, paused = fields[:6]
            return cls(version, revision.decode(), timing.decode(), policy.decode(), envelope, paused == 1)


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """The record of a schedule's ticks, which only the scripts write.

    Without a tick, `last_ms` is 0 and `task_id` "".
    """

    last_ms: int = 0
    task_id: str = ""
    fired: int = 0
    skipped: int = 0
    dropped: int = 0

    def pack(self) -> bytes:
        """The record in the form that lua/tick.lua writes."""
        parts = [self.last_ms, self.task_id, self.fired, self.skipped, self.dropped]
        return cast("bytes", msgpack.packb(parts, use_bin_type=False))

    @classmethod
    def unpack(cls, packed: bytes) -> ScheduleState:
        if not packed:
            return cls()
        with decoding():
            last_ms, task_id, *counts = unpacking.record(packed, most_bytes=_STATE_BYTES)[:5]
            fired, skipped, dropped = map(foreign.whole, counts)
            return cls(foreign.whole(last_ms, most=foreign.LAST_MS), foreign.text(task_id), fired, skipped, dropped)


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
