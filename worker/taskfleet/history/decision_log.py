"""Writes the decisions of one scaler: all that matter, and of the others one in a few seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgpack

from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.history.decision_record import BODY_LIMIT, DecisionRecord, body_of, difference, key_frame
from taskfleet.protocol import rings
from taskfleet.protocol.rings import SCALER_RINGS
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import history as calls

BOUNDS: Final = calls.DecisionBounds(
    most=800, most_bytes=524_288, kept_ms=3_600_000, remembered_ms=86_400_000, most_scalers=2000
)
"""Of each scaler: so many decisions, and bytes of them, of the last hour; and so many scalers of the last day."""

FRAMES: Final = 30
"""Records from one key frame to the next, at most."""

_CLOSEST_SECONDS = 4.5  # of records that tell nothing new; polls are 5 s apart, or the spec asks for closer ones
_MOST_A_MINUTE = 60
_SUMMARY_TEXT = 300  # characters
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}/[A-Za-z0-9_.-]{1,253}")


def checked(scaler: str) -> str:
    """The name of a scaler. Errors: `ConfigurationError` for another form than `namespace/name`."""
    if not _NAME.fullmatch(scaler):
        raise ConfigurationError(f"scaler {scaler!r} must be NAMESPACE/NAME, or local/NAME for `taskfleet up`")
    return scaler


class DecisionLog:
    """The decisions of one scaler, as one process writes them.

    `wants` says whether a decision is worth a record, before one is made. Every change of the number, of the reason or
    of the limit is, up to 60 a minute; else one decision in 4.5 s. `add` writes it. Of a record that is too large, the
    state or the terms of each queue are left out.
    """

    def __init__(self, broker: RedisBroker, scaler: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._scaler = checked(scaler)
        self._clock = clock
        self._frame = b""
        self._since_frame = 0
        self._outcome: tuple[int, str, str] | None = None
        self._written = float("-inf")
        self._minute, self._count = float("-inf"), 0

    def wants(self, outcome: tuple[int, str, str]) -> bool:
        """Whether a decision with this outcome (`DecisionRecord.outcome`) is to be recorded now."""
        now = self._clock()
        if now - self._minute >= 60:
            self._minute, self._count = now, 0
        if self._count >= _MOST_A_MINUTE:
            return False
        return outcome != self._outcome or now - self._written >= _CLOSEST_SECONDS

    @property
    def wants_state(self) -> bool:
        """Whether the next record is a key frame, which has the state of the autoscaler."""
        return not self._frame or self._since_frame >= FRAMES

    async def add(self, record: DecisionRecord, *, busy: int) -> None:
        """Write a record; `busy` of the replicas run a task. Errors: `TaskQueueError`; nothing is written then."""
        body, frame = body_of(record), self._frame
        if len(body) > BODY_LIMIT:
            body = body_of(replace(record, queues=()))
        if len(body) > BODY_LIMIT:
            raise TaskQueueError(f"the decision of {self._scaler} has {len(body)} bytes and is not recorded")
        framed = self.wants_state
        entry = key_frame(body, record.state) if framed else difference(body, frame)
        summary: Any = msgpack.packb(
            (
                record.current,
                record.desired,
                busy,
                record.reason[:_SUMMARY_TEXT],
                record.message[:_SUMMARY_TEXT],
                record.limited_by[:_SUMMARY_TEXT],
            )
        )
        fleet = self._broker.fleet
        kept = await self._broker.call(calls.decision(fleet, self._scaler, entry, summary, BOUNDS))
        if framed:
            self._frame, self._since_frame = body, 0
        self._since_frame += 1
        if kept < self._since_frame:  # the key frame is gone: data was lost, or the entries are large
            self._frame = b""
        self._outcome, self._written = record.outcome, self._clock()
        self._count += 1
        await self._broker.call(
            calls.record(
                fleet.replicas(self._scaler),
                SCALER_RINGS,
                rings.packed_gauges((record.current, record.desired, busy)),
                b"",
            )
        )


async def record_decision(broker: RedisBroker, scaler: str, record: DecisionRecord, *, busy: int = 0) -> None:
    """Write one record alone. Errors: `TaskQueueError`. `DecisionLog` is for a process that writes many."""
    await DecisionLog(broker, scaler).add(record, busy=busy)
