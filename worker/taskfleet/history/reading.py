"""Reads the figures of queues over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.protocol import rings
from taskfleet.protocol.rings import QUEUE_RINGS, STEP_SECONDS, Ring, RingRecord
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import history as calls

Span = Literal["1h", "24h", "7d"]
SPANS: Final[tuple[Span, ...]] = get_args(Span)
SPARKS: Final = 60
"""The figures of a sparkline: one for each minute of the last hour."""

_TOGETHER = 256  # sparklines in one round trip


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """The figures of one step of time, which begins at `at`. In longer steps the gauges are the largest of the step.

    The rates are those since the point before, `None` when there is none or the queue's counters have started anew.
    `busy_slots` is how many slots ran a task in the mean.
    """

    at: datetime
    ready: int
    running: int
    delayed: int
    blocked: int
    dead: int
    oldest_age_seconds: float
    enqueued_per_second: float | None
    finished_per_second: float | None
    failed_per_second: float | None
    busy_slots: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Points `step_seconds` apart, oldest first. A step in which nobody recorded has no point."""

    step_seconds: int
    points: list[HistoryPoint]


def _ring(span: str) -> Ring:
    if span not in SPANS:
        raise ConfigurationError(f"span is {span!r}: use one of {', '.join(SPANS)}")
    return QUEUE_RINGS.rings[1 + SPANS.index(span)]


async def read(broker: RedisBroker, queue: str, span: Span = "1h") -> History:
    """The figures of a queue over the last hour, day or week; without points for a queue that nobody has recorded.

    Errors: `ConfigurationError` for another span, `BrokerConnectionError`, also when the key of the history holds
    something that another program has written.
    """
    ring = _ring(span)
    key = broker.keys_of(queue).history
    [reply] = await broker.call_each([calls.read(key, whole=QUEUE_RINGS.size, first=ring.first, size=ring.size)])
    if isinstance(reply, TaskQueueError):
        raise reply
    return History(ring.shape.seconds, list(_points(ring, ring.written(reply.part, reply.now_ms))))


def _points(ring: Ring, records: Iterable[RingRecord]) -> Iterable[HistoryPoint]:
    before: RingRecord | None = None
    for record in records:
        yield _point(ring, before, record)
        before = record


def _point(ring: Ring, before: RingRecord | None, record: RingRecord) -> HistoryPoint:
    ready, running, delayed, blocked, dead, age = record.gauges
    rates: list[float | None] = [None] * rings.TOTALS
    grown = None if before is None else rings.grown(before.totals, record.totals)
    if before is not None and grown is not None:
        seconds = _until(ring, record) - _until(ring, before)
        rates = [one / seconds for one in (*grown[:-1], rings.busy_seconds(grown[-1]))]
    return HistoryPoint(
        datetime.fromtimestamp(record.step * ring.shape.seconds, UTC),
        ready,
        running,
        delayed,
        blocked,
        dead,
        rings.age_seconds(age),
        *rates,
    )


def _until(ring: Ring, record: RingRecord) -> int:
    """When the totals of a record were written, about, in seconds: at the end of a step of recording."""
    return record.step * ring.shape.seconds + (record.part + 1) * STEP_SECONDS


async def sparklines(broker: RedisBroker, queues: Sequence[str]) -> dict[str, list[int | None]]:
    """The ready tasks of each minute of the last hour, oldest first, for many queues in few round trips.

    The largest number of each minute; `None` for a minute in which nobody recorded, and for all minutes of a queue
    whose history holds something that another program has written. Errors: `BrokerConnectionError`.
    """
    ring = QUEUE_RINGS.rings[0]
    found: dict[str, list[int | None]] = {}
    for start in range(0, len(queues), _TOGETHER):
        some = queues[start : start + _TOGETHER]
        asked = [
            calls.read(broker.keys_of(queue).history, whole=QUEUE_RINGS.size, first=ring.first, size=ring.size)
            for queue in some
        ]
        for queue, reply in zip(some, await broker.call_each(asked), strict=True):
            line: list[int | None] = [None] * SPARKS
            if not isinstance(reply, TaskQueueError):
                last = reply.now_ms // 1000 // ring.shape.seconds
                for record in ring.written(reply.part, reply.now_ms):
                    line[record.step - last - 1] = record.gauges[0]
            found[queue] = line
    return found
