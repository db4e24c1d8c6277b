"""How an ended task is recorded: the result record, and the dead letter."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet.engine import envelope

SUCCEEDED, CANCELLED, EXPIRED = "succeeded", "cancelled", "expired"
CANCELLED_TTL_MS = 3_600_000


def pack_success(packed_result: bytes) -> bytes:
    # ["succeeded", result], the result packed already.
    return b"\x92\xa9succeeded" + packed_result


def pack_end(state: str, reason: str) -> bytes:
    return envelope.pack([state, reason])


def unpack_end(record: bytes) -> tuple[str, Any]:
    """(state, result or reason)."""
    state, value = envelope.unpack(record)
    return state, value


def pack_failure(reason: str, error: str, traceback: str) -> bytes:
    """The part of a dead letter that a worker knows; long tracebacks keep their end, where the cause is."""
    return cast("bytes", msgpack.packb([reason, error[:4000], traceback[-16_000:]], use_bin_type=False))


def explain(state: str, value: bytes) -> str:
    """An ending in words, from its record or its plain reason."""
    with contextlib.suppress(ValueError):
        record = msgpack.unpackb(value, raw=True)
        if isinstance(record, list) and len(record) >= 2 and isinstance(record[1], bytes):
            return f"{state}: {record[1].decode()}"
    return f"{state}: {value.decode('utf-8', 'replace')}" if value else state


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that ended for good without a result.

    `state` is failed (its retries are used up) or dead (too many deliveries, not decodable, unknown name).
    """

    id: str
    task: str
    state: str
    reason: str
    error: str
    traceback: str
    attempts: int
    deliveries: int
    enqueued_at: dt.datetime | None
    died_at: dt.datetime

    @classmethod
    def of_packed(cls, task_id: str, packed: bytes) -> DeadLetter:
        # Redis' own messagepack knows only the old string type, so everything arrives as bytes.
        state, attempts, deliveries, died_ms, blob, record = msgpack.unpackb(packed, raw=True)[:6]
        reason, error, traceback = (part.decode("utf-8", "replace") for part in msgpack.unpackb(record, raw=True))
        try:
            task = envelope.decode(blob)
            name, enqueued = task.name, dt.datetime.fromtimestamp(task.enqueued_ms / 1000, dt.UTC)
        except Exception:
            name, enqueued = "?", None
        died = dt.datetime.fromtimestamp(died_ms / 1000, dt.UTC)
        return cls(
            task_id, name, state.decode(), reason, error, traceback, int(attempts), int(deliveries), enqueued, died
        )
