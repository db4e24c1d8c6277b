"""The record of a task that ended for good without a result, and of an attempt that failed, as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgpack

from taskfleet import showing
from taskfleet.protocol import attempt_errors
from taskfleet.protocol.attempt_errors import StoredError

ERROR_CHARACTERS, TRACEBACK_CHARACTERS = 4000, 16_000
_ATTEMPT_CHARACTERS, _ATTEMPT_TRACEBACK_CHARACTERS = 500, 2000

RAN_TOO_LONG = "it ran longer than its timeout of "

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
    """A dead letter in the form that `DeadLetter.of_packed` (dead_letter.py) reads.

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
    parts = [reason, error[:ERROR_CHARACTERS], traceback[-TRACEBACK_CHARACTERS:]]
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


def ran_too_long(timeout: float) -> str:
    """The error of a dead letter whose last run was stopped by its timeout (s); dead_letter.py reads it again."""
    return f"{RAN_TOO_LONG}{timeout:g} s"
