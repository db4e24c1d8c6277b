"""The records of a task that readers get: its life, the errors of its attempts, and a page of tasks."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from taskfleet.protocol.progress import Progress
from taskfleet.protocol.status import Status


@dataclass(frozen=True, slots=True)
class AttemptError:
    """How one attempt of a task ended, if not with a result.

    `reason` is exception, timeout, crashed (its process died), worker_lost, or that of a dead letter. `worker` is
    `name/process number`, `None` when it is not known. `retry_at` is when the next attempt was due, `None` after the
    last one. A traceback of an attempt that was retried is its end only. `trace_id` is that of its run, 32 hexadecimal
    digits, if the run was in a trace that is kept.
    """

    attempt: int
    at: dt.datetime
    worker: str | None
    reason: str
    error: str
    traceback: str
    retry_at: dt.datetime | None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """The life of one task, as far as its queue knows it at this moment. What is not known is `None`.

    Of a task that has succeeded, was cancelled or has expired, the queue keeps only its result or the reason, and
    nothing of one that keeps no result. Times are in UTC, by the clock of Redis; `started_at` is by that of the worker,
    and known of a run that takes longer than a heartbeat.

    `args` and `kwargs` are data, without the types of the annotations; `None` when the payload is too large to be
    shown, is sealed and no key opens it, or is damaged: `problem` says which. `enqueued_by` is the `host:pid` of the
    process that sent it, and `parent` the id of the task whose code did. `attempt` counts from 1, `deliveries` counts
    claims. `waiting` says in one sentence where the task waits and for what; `None` while it runs and when it has
    ended. `errors` are the last ones of its attempts, at most ten, the oldest first. `error`, `traceback` and `reason`
    are those of its end, if it ended without a result.
    """

    id: str
    queue: str
    state: Status
    task: str | None = None
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    enqueued_at: dt.datetime | None = None
    enqueued_by: str | None = None
    parent: str | None = None
    due_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    worker: str | None = None
    lease_expires_at: dt.datetime | None = None
    attempt: int | None = None
    deliveries: int | None = None
    max_retries: int | None = None
    unique_key: str | None = None
    limit_key: str | None = None
    fair_key: str | None = None
    waits_for: tuple[str, ...] = ()
    waiting: str | None = None
    errors: tuple[AttemptError, ...] = ()
    progress: Progress | None = None
    result: Any = None
    error: str | None = None
    traceback: str | None = None
    reason: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, and the `cursor` from which the next page goes on; `None` when this is the last.

    A page may have fewer tasks than were asked for, even none, and yet a cursor: one call looks at a bounded number of
    tasks, here `examined`.
    """

    items: tuple[TaskInfo, ...]
    cursor: str | None
    examined: int
