"""Tasks: pages of them, and one in full. What a task holds is text of JSON, and never anything else."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from taskfleet_dashboard.answers.answer import Answer


class TaskRow(Answer):
    """One task of a page."""

    id: str
    """Its id."""
    task: str | None
    """Its name; null when it cannot be read, or is not kept."""
    queue: str
    """Its queue."""
    state: str
    """delayed, blocked, ready, running, retrying, succeeded, failed, dead, cancelled or expired."""
    enqueued_at: datetime | None
    """When it was sent."""
    due_at: datetime | None
    """When it may start, of one that waits for a time."""
    started_at: datetime | None
    """When its run began, of one that runs longer than a heartbeat."""
    ended_at: datetime | None
    """When it ended, of a dead letter."""
    worker: str | None
    """`name/process number` of who runs it, or ran it last."""
    attempt: int | None
    """From 1."""
    unique_key: str | None
    """Its unique key."""
    limit_key: str | None
    """Its limit key."""
    fair_key: str | None
    """Its fair key."""
    waiting: str | None
    """Where it waits and for what, in one sentence."""
    error: str | None
    """Its last error, in one line."""


class TaskPageAnswer(Answer):
    """Some tasks. A page may be empty and yet have a cursor, since one call looks at a bounded number of tasks."""

    items: list[TaskRow]
    """The tasks."""
    cursor: str | None
    """Where the next page goes on; null after the last."""
    examined: int
    """Tasks that this call has looked at."""
    problems: list[str] = Field(default_factory=list[str])
    """What cannot be read and is missing in `items`, in one line each."""


class AttemptRow(Answer):
    """How one attempt ended, if not with a result."""

    attempt: int
    """From 1."""
    at: datetime
    """When."""
    worker: str | None
    """Who ran it."""
    reason: str
    """exception, timeout, crashed, worker_lost, or that of a dead letter."""
    error: str
    """The error."""
    traceback: str
    """Its traceback, or the end of it."""
    retry_at: datetime | None
    """When the next attempt was due; null after the last."""
    trace_id: str | None
    """The trace of its run, if that is kept."""


class ProgressRow(Answer):
    """How far a task is, as it has said itself."""

    done: float
    """What it has done."""
    total: float | None
    """Of how much; null when it did not say."""
    fraction: float | None
    """From 0 to 1; null without a total."""
    note: str
    """Its note."""
    at: datetime
    """When it said so."""


class LifeEvent(Answer):
    """One event in the life of a task."""

    at: datetime | None
    """When; null where nobody has kept the time."""
    what: str
    """enqueued, ready, claimed, attempt failed, retry due, due, progress, waiting or ended."""
    detail: str
    """More about it, in one line."""
    worker: str | None
    """Who did it."""
    attempt: int | None
    """Which attempt it belongs to."""


class TaskAnswer(TaskRow):
    """One task in full."""

    args: str | None
    """Its positional arguments as JSON text; null when they cannot be shown, and `problem` says why."""
    kwargs: str | None
    """Its named arguments as JSON text."""
    result: str | None
    """Its result as JSON text; null until it has succeeded."""
    enqueued_by: str | None
    """`host:pid` of who sent it."""
    parent: str | None
    """The task whose code has sent it."""
    lease_expires_at: datetime | None
    """Until when its claim is valid."""
    deliveries: int | None
    """How often it was claimed."""
    max_retries: int | None
    """How often it may be tried again."""
    waits_for: list[str]
    """The tasks that it waits for, as many as were found."""
    errors: list[AttemptRow]
    """The last ones of its attempts, the oldest first."""
    progress: ProgressRow | None
    """Its last report."""
    traceback: str | None
    """Of its end."""
    reason: str | None
    """Why it has no result, in one word."""
    problem: str | None
    """What of it cannot be read, and why."""
    life: list[LifeEvent]
    """What has happened to it, the oldest first."""
    masked: list[str]
    """The names of the fields that were masked in it."""


class GraphNode(Answer):
    """One task of a workflow."""

    id: str
    """Its id."""
    task: str | None
    """Its name, if it is known."""
    queue: str | None
    """Its queue, if it is known."""
    state: str
    """Its state; unknown for one of which nothing is kept."""


class GraphEdge(Answer):
    """One task waits for another."""

    from_: str = Field(alias="from")
    """The id of the task that ends first."""
    to: str
    """The id of the task that waits for it, or was sent by it."""
    position: int | None
    """Which of its inputs it is; null when it takes no result of it, or nobody knows."""
    kind: str
    """`waits` for a workflow, `sent` where the code of the first has sent the second."""


class GraphAnswer(Answer):
    """The workflow around one task."""

    nodes: list[GraphNode]
    """The tasks, the asked one first."""
    edges: list[GraphEdge]
    """Who waits for whom."""
    whole: bool
    """Whether everything was found: a workflow is looked for with a bounded number of calls."""
