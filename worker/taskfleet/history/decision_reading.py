"""Reads the decisions of scalers: all of the last hour, the replicas of the last day, and who has written at all."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack

from taskfleet import foreign
from taskfleet.errors import TaskQueueError
from taskfleet.history.decision_log import BOUNDS, checked
from taskfleet.history.decision_record import KEY_FRAME, DecisionRecord, bodies_of, read_record
from taskfleet.protocol.rings import SCALER_RINGS
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import history as calls

_HEAD = struct.Struct(">dd")  # bytes until the end of the entry, and the time, ms
_TOGETHER = 100  # entries in one call
_FRAMES_KEPT = 4  # bodies of key frames that a difference may belong to: several processes may have written
_FRAMES_BEFORE = 2  # so many are looked for before the first decision that is asked for
_SUMMARY = 6


@dataclass(frozen=True, slots=True)
class ScalerSummary:
    """The last decision of a scaler, in short. `busy` of the `replicas` ran a task."""

    name: str
    at: datetime
    replicas: int
    desired: int
    busy: int
    reason: str
    message: str
    limited_by: str


@dataclass(frozen=True, slots=True)
class ReplicasPoint:
    """The largest numbers of one minute, which begins at `at`."""

    at: datetime
    replicas: int
    desired: int
    busy: int


async def scalers(broker: RedisBroker) -> list[ScalerSummary]:
    """Those that have decided within the last day, by name, each with its last decision. Errors: `TaskQueueError`."""
    found: dict[bytes, bytes] = await _hash(broker, broker.fleet.latest)
    summaries: list[ScalerSummary] = []
    for name, value in found.items():
        try:
            summaries.append(_summary(name, value))
        except foreign.ForeignError as error:
            broker.skipped.add("summary of a scaler", name, error)
    return sorted(summaries, key=lambda one: one.name)


async def _hash(broker: RedisBroker, key: str) -> dict[bytes, bytes]:
    """The fields of a hash of bounded size, in calls of limited size."""
    found: dict[bytes, bytes] = {}
    cursor = 0
    while True:
        cursor, some = await broker.patiently(
            lambda cursor=cursor: broker.client.redis.hscan(key, cursor, count=_TOGETHER), of_call=[key]
        )
        found |= some
        if not cursor or len(found) > 2 * BOUNDS.most_scalers:  # another program has written the rest
            return found


def _summary(raw_name: bytes, value: bytes) -> ScalerSummary:
    name = foreign.name(raw_name)
    try:
        at = _time(struct.unpack_from(">d", value)[0])
        parts: Any = msgpack.unpackb(value[8:], raw=False)
    except Exception as error:  # msgpack's errors have no common class
        raise foreign.ForeignError(f"no summary: {type(error).__name__}") from None
    if not isinstance(parts, list) or len(parts) < _SUMMARY:
        raise foreign.ForeignError("no summary")
    replicas, desired, busy = (foreign.whole(number) for number in parts[:3])
    reason, message, limited_by = (foreign.text(text)[: foreign.NAME_LIMIT * 4] for text in parts[3:_SUMMARY])
    return ScalerSummary(name, at, replicas, desired, busy, reason, message, limited_by)


def _time(ms: float) -> datetime:
    if not 0 <= ms <= foreign.LAST_MS:  # also for no number
        raise foreign.ForeignError("no time")
    return datetime.fromtimestamp(ms / 1000, UTC)


async def decisions(broker: RedisBroker, scaler: str, since: datetime | None = None) -> list[DecisionRecord]:
    """The decisions of a scaler after `since`, oldest first; all of the last hour without it.

    What other programs have written among them is left out, and counted in `broker.skipped`. Errors:
    `ConfigurationError` for a name that is none, `BrokerConnectionError`.
    """
    key = broker.fleet.decisions(checked(scaler))
    since_ms = -math.inf if since is None else since.timestamp() * 1000
    entries = await _entries(broker, key, since_ms)
    frames: list[bytes] = []
    found: list[DecisionRecord] = []
    for ms, entry in entries:
        try:
            at = _time(ms)
            body, state = bodies_of(entry, frames)
            record = read_record(at, body, state)
            if entry[:1] == KEY_FRAME:
                frames = [body, *frames[: _FRAMES_KEPT - 1]]
            if ms > since_ms:
                found.append(record)
        except foreign.ForeignError as error:
            if not ms <= since_ms and (frames or entry[:1] == KEY_FRAME):  # else its key frame is older than the bounds
                broker.skipped.add("decision", entry[:40], error)
    return found


async def _entries(broker: RedisBroker, key: str, since_ms: float) -> list[tuple[float, bytes]]:
    """(time in ms, entry) from the end of the list back to `since_ms` and to a key frame before it; oldest first."""
    pages: list[list[bytes]] = []
    looked, frames_before = 0, 0
    seen: set[bytes] = set()
    while looked <= BOUNDS.most:
        page: list[bytes] = await broker.patiently(
            lambda looked=looked: broker.client.redis.lrange(key, -looked - _TOGETHER, -looked - 1), of_call=[key]
        )
        looked += _TOGETHER
        # Entries that came meanwhile have moved the others: some come twice, and none is missed.
        pages.append([entry for entry in page if entry not in seen])
        seen.update(page)
        before = [entry for entry in page if len(entry) > _HEAD.size and _HEAD.unpack_from(entry)[1] <= since_ms]
        frames_before += sum(entry[_HEAD.size : _HEAD.size + 1] == KEY_FRAME for entry in before)
        if len(page) < _TOGETHER or frames_before >= _FRAMES_BEFORE:
            break
    found: list[tuple[float, bytes]] = []
    for entry in (entry for page in reversed(pages) for entry in page):
        if len(entry) <= _HEAD.size:
            broker.skipped.add("decision", entry[:40], "too short")
            continue
        found.append((_HEAD.unpack_from(entry)[1], entry[_HEAD.size :]))
    return found


async def replicas_over_time(broker: RedisBroker, scaler: str) -> list[ReplicasPoint]:
    """The replicas of a scaler over the last day, oldest first; a minute without a decision has no point.

    Errors: as of `decisions`, also when the key holds something that another program has written.
    """
    [ring] = SCALER_RINGS.rings
    key = broker.fleet.replicas(checked(scaler))
    replies: Sequence[calls.RingReply | TaskQueueError] = await broker.call_each(
        [calls.read(key, whole=SCALER_RINGS.size, first=ring.first, size=ring.size)]
    )
    if isinstance(replies[0], TaskQueueError):
        raise replies[0]
    return [
        ReplicasPoint(datetime.fromtimestamp(record.step * ring.shape.seconds, UTC), *record.gauges)
        for record in ring.written(replies[0].part, replies[0].now_ms)
    ]
