"""How an ended task is recorded: the result record, and the dead letter."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet.errors import BadSignatureError, SerializationError
from taskfleet.protocol import envelope, unpacking
from taskfleet.protocol.sealing import PLAIN, Seal

SUCCEEDED, CANCELLED, EXPIRED = "succeeded", "cancelled", "expired"
CANCELLED_TTL_MS = 3_600_000
_REASON_CHARACTERS, _ERROR_CHARACTERS, _TRACEBACK_CHARACTERS = 200, 4000, 16_000
_RECORD_BYTES = 1_048_576  # of an error record, which has at most four bytes a character


def pack_success(packed_result: bytes, packed_form: bytes = b"") -> bytes:
    """The record of a result that is packed already, with its typed form behind it where there is one."""
    # ["succeeded", result] or ["succeeded", result, form].
    if packed_form:
        return b"\x93\xa9succeeded" + packed_result + packed_form
    return b"\x92\xa9succeeded" + packed_result


def pack_end(state: str, reason: str) -> bytes:
    return envelope.pack([state, reason])


def unpack_end(
    record: bytes, *, queue: str, task_id: str, seal: Seal = PLAIN, budget: unpacking.Budget | None = None
) -> tuple[str, Any]:
    """(state, result or reason). Errors: `SerializationError` and its kinds for what is no result record of ours.

    Records that are unpacked together may share a `budget`.
    """
    try:
        parts = envelope.unpack(seal.open("result", queue, task_id, record), seal.limit, budget)
        state, value = parts[:2]  # what a newer version adds comes behind
        if len(parts) > 2 and type(parts[2]) is envelope.TypedForm:
            value = parts[2]
        problem = "it is no result record"
    except SerializationError as error:
        error.args = (f"task {task_id}: {error}",)
        raise
    except Exception as error:
        state = value = None
        problem = str(error) or type(error).__name__
    if type(state) is not str:
        raise SerializationError(f"task {task_id}: its stored result cannot be read: {problem}")
    return state, value


def unpack_result(
    record: bytes, *, queue: str, task_id: str, seal: Seal = PLAIN, budget: unpacking.Budget | None = None
) -> Any:
    """The result of a task that has succeeded. Errors: as `unpack_end`'s, also for the record of any other end.

    A genuine record says how its task ended, and whoever writes to Redis can put it where a result is waited for: the
    reason of a cancellation must not pass for a result there.
    """
    state, value = unpack_end(record, queue=queue, task_id=task_id, seal=seal, budget=budget)
    if state != SUCCEEDED:
        refusal = BadSignatureError if seal.requires else SerializationError
        raise refusal(
            f"task {task_id}: its result is waited for, and this is the record of another end: {state[:40]!r}"
        )
    return value


def pack_failure(reason: str, error: str, traceback: str) -> bytes:
    """The part of a dead letter that a worker knows; long tracebacks keep their end, where the cause is."""
    parts = [reason, error[:_ERROR_CHARACTERS], traceback[-_TRACEBACK_CHARACTERS:]]
    # What a task raises may hold half a surrogate pair, which UTF-8 has no place for.
    return cast("bytes", msgpack.packb(parts, use_bin_type=False, unicode_errors="backslashreplace"))


def unreadable_letter(problem: str) -> bytes:
    """What stands for a dead letter that is not read."""
    record = pack_failure("unreadable", f"the dead letter itself cannot be read: {problem}", "")
    return cast("bytes", msgpack.packb([b"dead", 0, 0, 0, b"", record], use_bin_type=False))


def explain(state: str, value: bytes, *, queue: str, task_id: str, seal: Seal = PLAIN) -> str:
    """An ending in words, from its record or its plain reason."""
    if envelope.version_of(value) is not None:
        try:
            value = seal.open("error" if state in ("failed", "dead") else "result", queue, task_id, value)
        except SerializationError:
            return state
    with contextlib.suppress(SerializationError):
        record = unpacking.record(value, most_bytes=_RECORD_BYTES)
        if len(record) >= 2 and isinstance(record[1], bytes):
            return f"{state}: {_text(record[1], _ERROR_CHARACTERS)}"
    return f"{state}: {_text(value, _ERROR_CHARACTERS)}" if value else state


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that ended for good without a result.

    `state` is failed (its retries are used up) or dead (too many deliveries, not decodable, unknown name). What cannot
    be read, for want of a key or because it is damaged, is `?` or says so in its place: a listing always works.
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
            # Redis' own messagepack knows only the old string type, so everything arrives as bytes.
            fields = unpacking.record(packed, most_bytes=len(packed))
            state, attempts, deliveries, died_ms, blob, record = fields[:6]
            name, enqueued = _task_of(blob, queue, task_id, seal)
            reason, error, traceback = _error_of(record, queue, task_id, seal)
            died = dt.datetime.fromtimestamp(died_ms / 1000, dt.UTC)
            return cls(
                task_id,
                name,
                _text(state, _REASON_CHARACTERS),
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
        # Its name, and no more: the arguments of a hundred tasks at once are as large as they like.
        name, enqueued_ms = envelope.name_of(seal.open_blob(queue, task_id, blob))
        return name, dt.datetime.fromtimestamp(enqueued_ms / 1000, dt.UTC)
    return "?", None


def _error_of(record: bytes, queue: str, task_id: str, seal: Seal) -> tuple[str, str, str]:
    # Redis itself writes some of these, and has no keys: one that is not sealed is taken as it is. It decides nothing.
    try:
        if envelope.version_of(record) is not None:
            record = seal.open("error", queue, task_id, record)
        reason, error, traceback = unpacking.record(record, most_bytes=_RECORD_BYTES)[:3]
        return (
            _text(reason, _REASON_CHARACTERS),
            _text(error, _ERROR_CHARACTERS),
            _text(traceback, _TRACEBACK_CHARACTERS),
        )
    except Exception as problem:
        return "unreadable", f"its error cannot be read: {problem}", ""


def _text(part: bytes, most: int) -> str:
    return part[: 4 * most].decode("utf-8", "replace")[:most]
