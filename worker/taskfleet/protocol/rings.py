"""The layout of the rings: fixed records in one string, and the time that belongs to each.

A ring has a number of records for consecutive steps of time. A record begins with its lap, which is how often the ring
had gone round when it was written, so that one of an earlier lap is not taken for one of now.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from taskfleet.protocol.stats import QueueStats

_LAP = 3  # bytes
_TOTAL_BYTES = (5, 5, 4, 5)  # so that the rings of a queue fit into 40 KiB, in which an allocator rounds them up
TOTALS: Final = len(_TOTAL_BYTES)
_LARGEST_GAUGE = 2**32 - 1
_TENTHS = 10  # ages and busy time are kept in tenths of a second


class RingShape(NamedTuple):
    """One ring of a key: the seconds of a step, its records, the gauges of a record, and whether it has totals.

    With `parts`, in seconds, a record also has the part of its step in which it was written last, so that the time of
    its totals is known although nobody has recorded for the rest of a long step.
    """

    seconds: int
    records: int
    gauges: int
    totals: bool
    parts: int = 0


@dataclass(frozen=True, slots=True)
class RingRecord:
    """One record: the number of its step since 1970, its gauges, its totals, and the part of the step, from 0."""

    step: int
    gauges: tuple[int, ...]
    totals: tuple[int, ...] = ()
    part: int = 0


@dataclass(frozen=True, slots=True)
class Ring:
    """One ring, which begins at byte `first` of the string."""

    shape: RingShape
    first: int

    @property
    def width(self) -> int:
        return _LAP + 4 * self.shape.gauges + self.shape.totals * sum(_TOTAL_BYTES) + (self.shape.parts > 0)

    @property
    def size(self) -> int:
        return self.width * self.shape.records

    def written(self, part: bytes, now_ms: int) -> Iterator[RingRecord]:
        """The records of the last lap until now, oldest first. `part` are the bytes of this ring."""
        if len(part) < self.size:
            return
        records, last = self.shape.records, now_ms // 1000 // self.shape.seconds
        for step in range(last - records + 1, last + 1):
            lap, slot = divmod(step, records)
            packed = part[slot * self.width : (slot + 1) * self.width]
            if int.from_bytes(packed[:_LAP], "big") == lap:
                yield self._unpacked(step, packed)

    def _unpacked(self, step: int, packed: bytes) -> RingRecord:
        end = _LAP + 4 * self.shape.gauges
        gauges = struct.unpack(f">{self.shape.gauges}I", packed[_LAP:end])
        totals: list[int] = []
        for width in _TOTAL_BYTES if self.shape.totals else ():
            totals.append(int.from_bytes(packed[end : end + width], "big"))
            end += width
        # Another program may have written a part beyond the step, by which a record would end before the one before it.
        part = min(packed[end], self.shape.seconds // self.shape.parts - 1) if self.shape.parts else 0
        return RingRecord(step, gauges, tuple(totals), part)


@dataclass(frozen=True)
class Rings:
    """All rings of one key. Written for the last time, they are kept for `kept_seconds`."""

    shapes: tuple[RingShape, ...]
    kept_seconds: int
    rings: tuple[Ring, ...] = field(init=False)

    def __post_init__(self) -> None:
        made: list[Ring] = []
        for shape in self.shapes:
            made.append(Ring(shape, made[-1].first + made[-1].size if made else 0))
        object.__setattr__(self, "rings", tuple(made))

    @property
    def size(self) -> int:
        return self.rings[-1].first + self.rings[-1].size


STEP_SECONDS: Final = 15
"""How often figures are recorded."""

_GAUGES = 6
QUEUE_RINGS: Final = Rings(
    (
        RingShape(60, 60, 1, totals=False),
        RingShape(STEP_SECONDS, 240, _GAUGES, totals=True),
        RingShape(300, 288, _GAUGES, totals=True, parts=STEP_SECONDS),
        RingShape(1800, 336, _GAUGES, totals=True, parts=STEP_SECONDS),
    ),
    kept_seconds=8 * 86_400,
)
"""Of a queue: ready tasks by the minute for an hour; all figures for an hour, a day and a week."""

SCALER_RINGS: Final = Rings((RingShape(60, 1440, 3, totals=False),), kept_seconds=86_400 + 3600)
"""Of a scaler: replicas, desired replicas and busy ones, by the minute for a day."""


def packed_gauges(gauges: Sequence[float]) -> bytes:
    """Numbers from 0, as far as they fit."""
    return struct.pack(f">{len(gauges)}I", *(max(0, min(_LARGEST_GAUGE, round(gauge))) for gauge in gauges))


def gauges_of(stats: QueueStats) -> bytes:
    """The gauges of a queue: ready, running, delayed, blocked, dead, and the oldest age in tenths of a second."""
    return packed_gauges(
        (
            stats.ready,
            stats.in_flight,
            stats.delayed,
            stats.blocked,
            stats.dead,
            stats.oldest_age_seconds * _TENTHS,
        )
    )


def totals_of(stats: QueueStats) -> bytes:
    """The totals of a queue: enqueued, finished, failed, and busy time in tenths of a second."""
    totals = (stats.enqueued_total, stats.finished_total, stats.failed_total, stats.busy_ms_total // (1000 // _TENTHS))
    return b"".join(
        (total % 256**width).to_bytes(width, "big") for total, width in zip(totals, _TOTAL_BYTES, strict=True)
    )


def age_seconds(gauge: int) -> float:
    return gauge / _TENTHS


def busy_seconds(total: int) -> float:
    return total / _TENTHS


def grown(before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """By how much each total has grown, `None` when one is lower than before: the counters have started anew."""
    differences: list[int] = []
    for earlier, later, width in zip(before, after, _TOTAL_BYTES, strict=True):
        differences.append((later - earlier) % 256**width)
        if differences[-1] >= 256**width // 2:
            return None
    return differences
