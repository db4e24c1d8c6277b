"""Workers and schedules."""

from __future__ import annotations

from datetime import datetime

from taskfleet_dashboard.answers.answer import Answer


class RunRow(Answer):
    """A run that goes on."""

    id: str
    """The id of the task."""
    task: str
    """Its name; empty while nobody has found it."""
    queue: str
    """Its queue; empty while nobody has found it."""
    seconds: float
    """How long it has run."""


class WorkerRow(Answer):
    """One worker process."""

    id: str
    """`name/process number`."""
    name: str
    """The pod's name in a cluster."""
    host: str
    """Its machine or pod."""
    pid: int
    """Its process."""
    version: str
    """Of Taskfleet; empty for one that does not say."""
    state: str
    """starting, running, draining, cordoned or drained."""
    queues: list[str]
    """What it serves."""
    slots: int
    """Tasks that it runs at once."""
    busy: int
    """Tasks that it runs."""
    stuck: int
    """Handlers that still run after they were stopped."""
    started_at: datetime | None
    """When it began."""
    heartbeat_age_seconds: float
    """The age of its last heartbeat."""
    clock_skew_seconds: float
    """By how much its clock is ahead of that of Redis."""
    oldest_run_seconds: float | None
    """How long its oldest run has taken; null while it runs nothing."""
    runs: list[RunRow]
    """Its longer runs, the longest first."""


class WorkersAnswer(Answer):
    """The workers that live."""

    items: list[WorkerRow]
    """By id."""
    cursor: str | None
    """Always null: they come all at once."""
    at: datetime
    """When."""


class ScheduleRow(Answer):
    """One schedule."""

    name: str
    """Its name."""
    queue: str
    """Where its tasks go."""
    task: str
    """The name of its task."""
    schedule: str
    """Its times, as a person writes them: a cron expression, or `every 30 s`."""
    time_zone: str
    """The zone of a cron expression."""
    paused: bool
    """Whether it stands still."""
    next: list[datetime]
    """Its next ticks, at most three; none while it is paused."""
    last_at: datetime | None
    """The tick that added the last task."""
    last_task_id: str | None
    """That task."""
    last_outcome: str | None
    """The state of that task now; null when nothing of it is kept."""
    concurrency_policy: str
    """Allow, Forbid or Replace."""
    starting_deadline_seconds: float | None
    """A tick that is later than this is dropped."""
    owner: str
    """The TaskQueue resource that keeps it, which alone can pause it; empty for one added from Python."""
    fired_total: int
    """Tasks that it has added."""
    skipped_total: int
    """Ticks that `Forbid` has skipped."""
    dropped_total: int
    """Downtimes whose ticks were dropped."""
    problem: str
    """Why it cannot be read, in one line; empty for one that can."""


class SchedulesAnswer(Answer):
    """All schedules."""

    items: list[ScheduleRow]
    """By name."""
    cursor: str | None
    """Always null: they come all at once."""
