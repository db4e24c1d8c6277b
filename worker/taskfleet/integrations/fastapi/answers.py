"""What the routes about single tasks answer."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from taskfleet.errors import SerializationError, TaskExecutionError, TaskNotFoundError
from taskfleet.handles import TaskHandle
from taskfleet.integrations.observing.report import Report
from taskfleet.protocol.progress import Progress
from taskfleet.protocol.status import Status

ENDED = frozenset(("succeeded", "failed", "dead", "cancelled", "expired"))


class AcceptedReport(Report):
    """The task that a request has enqueued."""

    id: str
    """Its id. With a `unique_key` that another task has, the id of that task: nothing was added then."""
    task: str
    """Its name."""
    queue: str
    """The queue that it is in."""
    status_url: str
    """Where to GET its state and its result: a path on this server."""


class ProgressAnswer(Report):
    """How far a task is, as it has said itself."""

    done: float
    """What it has done."""
    total: float | None
    """Of how much. Null when it did not say."""
    note: str
    """Its note."""
    at: datetime
    """When it said so."""


class TaskStateReport(Report):
    """The state of one task."""

    id: str
    """Its id."""
    queue: str | None
    """The queue that it is in."""
    status: Status
    """delayed, blocked, ready, running, retrying, succeeded, failed, dead, cancelled or expired."""
    ended: bool
    """Whether the state is final."""
    result: Any
    """Its result as JSON. Null until it has succeeded."""
    error: str | None
    """Why it has no result, in one line. Null unless it has failed, was cancelled or has expired."""
    progress: ProgressAnswer | None
    """Its last report (`current_task().progress`). Null before the first, and after the end."""


async def state_of(handle: TaskHandle[Any], wait: float) -> TaskStateReport:
    """The state of a task, after its end if that comes within `wait` seconds. Errors: `TaskNotFoundError`."""
    if wait:
        await _end_of(handle, wait)
    status = await handle.status()
    if status == "unknown":
        raise TaskNotFoundError(
            f"task {handle.id} is not known: it never was here, was purged, or its result has expired"
        )
    result, error = await _outcome_of(handle) if status in ENDED else (None, None)
    progress = None if status in ENDED else await handle.progress()
    return TaskStateReport(
        id=handle.id,
        queue=handle.queue,
        status=status,
        ended=status in ENDED,
        result=result,
        error=error,
        progress=_answer_of(progress),
    )


async def _end_of(handle: TaskHandle[Any], wait: float) -> None:
    try:
        async with asyncio.timeout(wait):
            await handle.result()
    except (TimeoutError, TaskExecutionError, SerializationError):
        return


async def _outcome_of(handle: TaskHandle[Any]) -> tuple[Any, str | None]:
    """(result as JSON, error)."""
    try:
        result = await handle.result()
    except (TaskExecutionError, SerializationError) as error:
        return None, str(error)
    try:
        return as_json(result), None
    except ValueError as error:
        return None, f"task {handle.id} has succeeded, and its result cannot be shown as JSON: {error!s:.200}"


def as_json(value: Any) -> Any:
    """The value in types that JSON has: bytes as base64, an infinite number as text. Errors: `ValueError`."""
    return json.loads(to_json(value, bytes_mode="base64", inf_nan_mode="strings", fallback=str))


def _answer_of(progress: Progress | None) -> ProgressAnswer | None:
    if progress is None:
        return None
    return ProgressAnswer(done=progress.done, total=progress.total, note=progress.note, at=progress.at)
