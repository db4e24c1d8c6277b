"""From the stored bytes of a task to what a reader is shown. No byte can make it fail: `problem` says what is wrong."""

from __future__ import annotations

import datetime as dt
import struct
from dataclasses import dataclass, field
from typing import Any, cast

import msgpack

from taskfleet import foreign, tracing
from taskfleet.inspection.task_info import AttemptError
from taskfleet.protocol import attempt_errors, call_settings, dead_letter, envelope, result_record, unpacking
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.sealing import Seal
from taskfleet.protocol.status import Status
from taskfleet.protocol.task_record import TaskRecord
from taskfleet.travel.value import plain

_SHOWN_AS = ("failed", "dead", "cancelled")  # states that a dead letter may name
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_STAMP = struct.Struct(">d").unpack_from


def moment(ms: float) -> dt.datetime | None:
    """A time; `None` for 0, and for one that no queue can have written."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC) if 0 < ms <= foreign.LAST_MS else None


@dataclass(slots=True)
class Payload:
    """What the envelope of a task says."""

    name: str | None = None
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    enqueued_at: dt.datetime | None = None
    parent: str | None = None
    max_retries: int | None = None
    problem: str | None = None


@dataclass(slots=True)
class End:
    """How a task ended, and the errors of its attempts until then."""

    state: Status
    at: dt.datetime | None = None
    attempt: int | None = None
    deliveries: int | None = None
    blob: bytes = b""
    result: Any = None
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    worker: str | None = None
    trace_id: str | None = None
    keys: dict[str, str] = field(default_factory=dict[str, str])  # by their letters in a tag
    earlier: list[StoredError] = field(default_factory=list[StoredError])
    problem: str | None = None

    def last_error(self) -> AttemptError:
        """The error of its last attempt."""
        return AttemptError(
            self.attempt or 1, self.at or _EPOCH, self.worker, self.reason or "", self.error or "",
            self.traceback or "", None, self.trace_id,
        )  # fmt: skip


def payload_of(blob: bytes, size: int, *, queue: str, task_id: str, seal: Seal) -> Payload:
    """The payload of a task, of which `size` bytes are stored and perhaps fewer were read."""
    found = Payload()
    if not size:
        return found
    if len(blob) >= envelope.STAMP_BYTES:
        found.enqueued_at = moment(_STAMP(blob)[0])
    if len(blob) < size:
        found.problem = f"its payload of {size} bytes is too large to be shown"
        try:
            found.name, _ = envelope.name_of(blob)
        except Exception:  # sealed, or cut off within its name
            found.name = None
        return found
    try:
        task = seal.open_task(queue, task_id, blob)
        found.name = task.name
        found.parent = _text(task.settings.get(call_settings.PARENT))
        retries = task.settings.get(call_settings.MAX_RETRIES)
        found.max_retries = retries if type(retries) is int else None
        args, kwargs = plain(task.args), plain(task.kwargs)
    except Exception as error:  # damaged values can raise anything
        found.problem = f"its payload cannot be read: {error}"
        return found
    found.args, found.kwargs = tuple(args), {foreign.text(key): value for key, value in kwargs.items()}
    return found


def _text(value: object) -> str | None:
    return value[: foreign.NAME_LIMIT] if isinstance(value, str) else None


def end_of(record: TaskRecord, *, queue: str, seal: Seal) -> End | None:
    """The end of a task from its result record or its dead letter; `None` for one that has not ended."""
    if record.state == "dead":
        return _of_letter(record, queue, seal)
    return _of_result(record, queue, seal) if record.state == "ended" else None


def _of_result(record: TaskRecord, queue: str, seal: Seal) -> End:
    if not record.record:
        # Only results are large.
        return End("succeeded", problem=f"its result of {record.record_size} bytes is too large to be shown")
    try:
        state, value = result_record.unpack_end(record.record, queue=queue, task_id=record.id, seal=seal)
        if state == result_record.SUCCEEDED:
            return End("succeeded", result=plain(value))
        if state in (result_record.CANCELLED, result_record.EXPIRED):
            return End(cast("Status", state), reason=state, error=str(value))
        problem = f"it names the state {state[:40]!r}"
    except Exception as error:
        problem = str(error)
    return End("succeeded", problem=f"its result cannot be read, nor whether it was cancelled: {problem}")


def _of_letter(record: TaskRecord, queue: str, seal: Seal) -> End:
    try:
        fields = unpacking.record(record.record, most_bytes=len(record.record))
        state, attempts, deliveries, died_ms, blob, why, *more = fields
        reason, error, traceback, worker = dead_letter.read_error(why, queue=queue, task_id=record.id, seal=seal)
        told = foreign.text(state)
        return End(
            cast("Status", told) if told in _SHOWN_AS else "dead",
            at=moment(died_ms),
            attempt=int(attempts),
            deliveries=int(deliveries),
            blob=blob,
            reason=reason,
            error=error,
            traceback=traceback,
            worker=worker or None,
            trace_id=_trace_id(why, queue, record.id, seal),
            keys=_keys_of(more[0]) if more else {},
            earlier=attempt_errors.unpack(more[2]) if len(more) > 2 and isinstance(more[2], bytes) else [],
        )
    except Exception as error:
        size = f" (it has {record.record_size} bytes)" if not record.record else ""
        return End("dead", reason="unreadable", error=f"its dead letter cannot be read{size}: {error}")


def _keys_of(packed: bytes) -> dict[str, str]:
    """The unique, limit and fair keys that a dead letter keeps (lua/step/bury.lua)."""
    found: Any = msgpack.unpackb(packed, raw=True, strict_map_key=False) if packed else {}
    return {foreign.text(letter): foreign.text(key) for letter, key in found.items() if isinstance(key, bytes)}


def error_of(stored: StoredError, lost: str | None, *, queue: str, task_id: str, seal: Seal) -> AttemptError:
    """The error of one attempt; `lost` is the worker that was lost with it."""
    reason, error, traceback, worker = dead_letter.read_error(stored.record, queue=queue, task_id=task_id, seal=seal)
    return AttemptError(
        stored.attempt, moment(stored.at_ms) or _EPOCH, worker or lost, reason, error, traceback,
        moment(stored.next_ms), _trace_id(stored.record, queue, task_id, seal),
    )  # fmt: skip


def _trace_id(record: bytes, queue: str, task_id: str, seal: Seal) -> str | None:
    """The trace of the run that an error record is about; `None` for any other text in its place."""
    found = tracing.parsed(dead_letter.trace_in(record, queue=queue, task_id=task_id, seal=seal))
    return None if found is None else found.trace_id
