"""A dead letter: the record of a task that ended for good without a result."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet import showing
from taskfleet.errors import SerializationError
from taskfleet.protocol import attempt_errors, envelope, unpacking
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.sealing import PLAIN, Seal

_REASON_CHARACTERS, _ERROR_CHARACTERS, _TRACEBACK_CHARACTERS = 200, 4000, 16_000
_ATTEMPT_CHARACTERS, _ATTEMPT_TRACEBACK_CHARACTERS = 500, 2000
_WORKER_CHARACTERS = 300
_RECORD_BYTES = 1_048_576  # the largest error record, with at most four bytes for a character

_RAN_TOO_LONG = "it ran longer than its timeout of "

logger = showing.logger("taskfleet")


def pack(
    state: str,
    attempts: int,
    deliveries: int,
    died_ms: int,
    blob: bytes,
    error_record: bytes,
    keys: Mapping[str, str] | None = None,
    errors: Sequence[StoredError] = (),
) -> bytes:
    """A dead letter in the form that `DeadLetter.of_packed` reads.

    `keys` are its keys by their letters (lua/queue/records.lua), `errors` those of its earlier attempts. The field
    between them is read by Redis only.
    """
    packed_keys = msgpack.packb(keys, use_bin_type=False) if keys else b""
    parts: list[Any] = [state, attempts, deliveries, died_ms, blob, error_record, packed_keys, b""]
    if errors:
        parts.append(attempt_errors.pack(errors))
    return cast("bytes", msgpack.packb(parts, use_bin_type=False))


def pack_failure(reason: str, error: str, traceback: str, worker: str = "", trace: str = "") -> bytes:
    """The error record of a dead letter, written by a worker. A long traceback keeps its end, which shows the cause.

    `trace` is the `traceparent` of the run, if it was in a trace that is kept.
    """
    parts = [reason, error[:_ERROR_CHARACTERS], traceback[-_TRACEBACK_CHARACTERS:]]
    return _packed([*parts, worker, trace] if trace else [*parts, worker] if worker else parts)


def pack_attempt(reason: str, error: str, traceback: str, worker: str, trace: str = "") -> bytes:
    """The error record of an attempt that is tried again: shorter, since many tasks may have several of them."""
    parts = [reason, error[:_ATTEMPT_CHARACTERS], traceback[-_ATTEMPT_TRACEBACK_CHARACTERS:], worker]
    return _packed([*parts, trace] if trace else parts)


def _packed(parts: list[str]) -> bytes:
    # The text of an exception may hold half a surrogate pair, which UTF-8 cannot express.
    return cast("bytes", msgpack.packb(parts, use_bin_type=False, unicode_errors="backslashreplace"))


def unreadable_letter(problem: str) -> bytes:
    """A packed dead letter that replaces an unreadable one."""
    return pack(
        "dead", 0, 0, 0, b"", pack_failure("unreadable", f"the dead letter itself cannot be read: {problem}", "")
    )


def warn_of_kept(queue: str, kept: Sequence[tuple[str, str]]) -> None:
    """Log the dead letters that could not be requeued: (id, the task that has its unique key, or '')."""
    for task_id, holder in kept[:10]:
        why = f"task {holder} has its unique key" if holder else "it was cancelled, or is damaged"
        logger.warning("queue %s: task %s stays a dead letter: %s", queue, task_id, why)


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
            unpacking.decoded(error, _ERROR_CHARACTERS),
            unpacking.decoded(traceback, _TRACEBACK_CHARACTERS),
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


def ran_too_long(timeout: float) -> str:
    """The error of a dead letter whose last run was stopped by its timeout (s); `timeout_in` reads it again."""
    return f"{_RAN_TOO_LONG}{timeout:g} s"


def timeout_in(error: str) -> float:
    """The timeout (s) in the error of such a dead letter; 0.0 in any other."""
    with contextlib.suppress(ValueError):
        if error.startswith(_RAN_TOO_LONG):
            return float(error.removeprefix(_RAN_TOO_LONG).removesuffix(" s"))
    return 0.0
