"""The result record: the result of a task that succeeded, or the reason why it was cancelled or has expired."""

from __future__ import annotations

import contextlib
from typing import Any

from taskfleet import tracing
from taskfleet.errors import BadSignatureError, SerializationError
from taskfleet.protocol import envelope, unpacking
from taskfleet.protocol.sealing import PLAIN, Seal

SUCCEEDED, CANCELLED, EXPIRED = "succeeded", "cancelled", "expired"
CANCELLED_TTL_MS = 3_600_000
_TRACE_HEAD = bytes([0xD9, tracing.PARENT_LENGTH])  # messagepack of a text of that length
_ERROR_CHARACTERS = 4000
_RECORD_BYTES = 1_048_576  # the largest record that is only shown to a person, with at most four bytes for a character


def pack_success(packed_result: bytes, packed_form: bytes = b"") -> bytes:
    """The record of a result that is packed already, followed by its typed form if it has one."""
    # ["succeeded", result] or ["succeeded", result, form].
    if packed_form:
        return b"\x93\xa9succeeded" + packed_result + packed_form
    return b"\x92\xa9succeeded" + packed_result


def with_trace(record: bytes, traceparent: str) -> bytes:
    """The record of a success, with the `traceparent` of the run at its end, for the task that takes the result."""
    # Readers take what they know from the start of the list.
    return bytes([record[0] + 1]) + record[1:] + _TRACE_HEAD + traceparent.encode()


def trace_in(record: bytes) -> str:
    """The `traceparent` at the end of an open record; '' for a record without one."""
    end = len(record) - tracing.PARENT_LENGTH
    if end <= 2 or record[0] not in (0x93, 0x94) or record[end - 2 : end] != _TRACE_HEAD:
        return ""
    return record[end:].decode("ascii", "replace")


def pack_end(state: str, reason: str) -> bytes:
    return envelope.pack([state, reason])


def pack_cancelled(reason: str) -> bytes:
    return pack_end(CANCELLED, reason)


def pack_expired(reason: str) -> bytes:
    return pack_end(EXPIRED, reason)


def unpack_end(
    record: bytes, *, queue: str, task_id: str, seal: Seal = PLAIN, budget: unpacking.Budget | None = None
) -> tuple[str, Any]:
    """(state, result or reason). Errors: `SerializationError` and its subclasses for data that is no result record.

    Records that are unpacked together may share a `budget`.
    """
    try:
        parts = envelope.unpack(seal.open("result", queue, task_id, record), seal.limit, budget)
        state, value = parts[:2]  # newer versions add their fields at the end
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
    """The result of a task that has succeeded. Errors: as for `unpack_end`, also for the record of any other end.

    A genuine record names the state in which its task ended. A client that can write to Redis could move such a record
    to where another result is awaited; the reason of a cancellation must not pass for a result there.
    """
    state, value = unpack_end(record, queue=queue, task_id=task_id, seal=seal, budget=budget)
    if state != SUCCEEDED:
        refusal = BadSignatureError if seal.requires else SerializationError
        raise refusal(
            f"task {task_id}: its result is waited for, and this is the record of another end: {state[:40]!r}"
        )
    return value


def explain(state: str, value: bytes, *, queue: str, task_id: str, seal: Seal = PLAIN) -> str:
    """The end of a task in words, from its record or its plain reason."""
    if envelope.version_of(value) is not None:
        try:
            value = seal.open("error" if state in ("failed", "dead") else "result", queue, task_id, value)
        except SerializationError:
            return state
    with contextlib.suppress(SerializationError):
        record = unpacking.record(value, most_bytes=_RECORD_BYTES)
        if len(record) >= 2 and isinstance(record[1], bytes):
            return f"{state}: {unpacking.decoded(record[1], _ERROR_CHARACTERS)}"
    return f"{state}: {unpacking.decoded(value, _ERROR_CHARACTERS)}" if value else state
