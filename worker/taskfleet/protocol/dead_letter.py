"""A dead letter, as its readers see it: a task that ended for good without a result."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from dataclasses import dataclass

from taskfleet.errors import SerializationError
from taskfleet.protocol import envelope, unpacking
from taskfleet.protocol.dead_record import ERROR_CHARACTERS, RAN_TOO_LONG, TRACEBACK_CHARACTERS
from taskfleet.protocol.sealing import PLAIN, Seal

_REASON_CHARACTERS = 200
_WORKER_CHARACTERS = 300
_RECORD_BYTES = 1_048_576  # the largest error record, with at most four bytes for a character


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that ended for good without a result.

    `state` is failed (its retries are used up) or dead (too many deliveries, an undecodable payload, an unknown name).
    A field that cannot be read, for lack of a key or because of damage, is `?` or names the problem, so that a listing
    always works.
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
    def of_packed(cls, task_id: str, packed: bytes, *, queue: str, seal: Seal = PLAIN) -> DeadLetter:
        try:
            # The messagepack of Redis knows only the old string type, so everything arrives as bytes.
            fields = unpacking.record(packed, most_bytes=len(packed))
            state, attempts, deliveries, died_ms, blob, record = fields[:6]
            name, enqueued = _task_of(blob, queue, task_id, seal)
            reason, error, traceback, _ = read_error(record, queue=queue, task_id=task_id, seal=seal)
            died = dt.datetime.fromtimestamp(died_ms / 1000, dt.UTC)
            return cls(
                task_id,
                name,
                unpacking.decoded(state, _REASON_CHARACTERS),
                reason,
                error,
                traceback,
                int(attempts),
                int(deliveries),
                enqueued,
                died,
            )
        except Exception as error:
            epoch = dt.datetime.fromtimestamp(0, dt.UTC)
            problem = f"the dead letter itself is damaged: {error}"
            return cls(task_id, "?", "dead", "unreadable", problem, "", 0, 0, None, epoch)


def _task_of(blob: bytes, queue: str, task_id: str, seal: Seal) -> tuple[str, dt.datetime | None]:
    with contextlib.suppress(SerializationError, ValueError, OverflowError, struct.error):
        # Only the name is unpacked: the arguments of a hundred tasks together can be very large.
        name, enqueued_ms = envelope.name_of(seal.open_blob(queue, task_id, blob))
        return name, dt.datetime.fromtimestamp(enqueued_ms / 1000, dt.UTC)
    return "?", None


def read_error(record: bytes, *, queue: str, task_id: str, seal: Seal) -> tuple[str, str, str, str]:
    """(reason, error, traceback, worker) of an error record; what cannot be read says so.

    Redis writes some of these records itself and has no keys. An unsealed record is accepted: nothing depends on it.
    """
    try:
        if envelope.version_of(record) is not None:
            record = seal.open("error", queue, task_id, record)
        reason, error, traceback, *more = unpacking.record(record, most_bytes=_RECORD_BYTES)
        worker = more[0] if more and isinstance(more[0], bytes) else b""
        return (
            unpacking.decoded(reason, _REASON_CHARACTERS),
            unpacking.decoded(error, ERROR_CHARACTERS),
            unpacking.decoded(traceback, TRACEBACK_CHARACTERS),
            unpacking.decoded(worker, _WORKER_CHARACTERS),
        )
    except Exception as problem:
        return "unreadable", f"its error cannot be read: {problem}", "", ""


def trace_in(record: bytes, *, queue: str, task_id: str, seal: Seal) -> str:
    """The `traceparent` in an error record; '' when it has none or cannot be read."""
    with contextlib.suppress(Exception):
        if envelope.version_of(record) is not None:
            record = seal.open("error", queue, task_id, record)
        parts = unpacking.record(record, most_bytes=_RECORD_BYTES)
        if len(parts) > 4 and isinstance(parts[4], bytes):
            return unpacking.decoded(parts[4], _WORKER_CHARACTERS)
    return ""


def timeout_in(error: str) -> float:
    """The timeout (s) in the error of such a dead letter; 0.0 in any other."""
    with contextlib.suppress(ValueError):
        if error.startswith(RAN_TOO_LONG):
            return float(error.removeprefix(RAN_TOO_LONG).removesuffix(" s"))
    return 0.0
