"""Queues: their rows, and one of them in full."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from taskfleet_dashboard.answers.answer import Answer, Order

QueueState = Literal["", "paused", "unserved", "limited", "unreadable"]
SPARK_POINTS = 60


class QueueRow(Answer):
    """One queue. Its figures are 0 until they were read once, and `state` says so when they cannot be read."""

    name: str
    """Its name."""
    state: QueueState
    """What keeps its tasks from starting: `unserved` has tasks and no worker; empty for nothing."""
    problem: str
    """Why it is unreadable, in one line."""
    ready: int
    """Tasks that wait for a worker."""
    running: int
    """Tasks that are claimed."""
    delayed: int
    """Tasks that wait for their time, or for their limit key."""
    blocked: int
    """Tasks that wait for other tasks."""
    parked: int
    """Those of the delayed that wait for their limit key."""
    dead: int
    """Dead letters."""
    oldest_age_seconds: float
    """How long the task at the head has been ready."""
    in_per_second: float | None
    """Tasks accepted. Null before the second reading, as for the next two."""
    out_per_second: float | None
    """Tasks that ended."""
    failed_per_second: float | None
    """Tasks that became dead letters."""
    drains_in_seconds: float | None
    """When nothing will be ready any more at these rates. Null when the backlog does not fall."""
    workers: int
    """Workers that claim its tasks."""
    limits: str
    """The limits of its options in words; empty for none, or when the dashboard does not know the application."""
    spark: Annotated[list[int | None], Field(min_length=SPARK_POINTS, max_length=SPARK_POINTS)]
    """The ready tasks of the last hour, one figure a minute, the latest last."""


class PartitionRow(Answer):
    """One partition of a queue."""

    name: str
    """Its name in Redis."""
    ready: int
    """As of the queue."""
    running: int
    """As of the queue."""
    delayed: int
    """As of the queue."""
    dead: int
    """As of the queue."""


class LimitRow(Answer):
    """One limit of a queue, and how much of it is used."""

    name: Literal["concurrency", "rate", "length", "concurrency per key", "rate per key"]
    """What it limits."""
    limit: float
    """Tasks at once, tasks per second, or tasks that wait."""
    used: float | None
    """The same unit; null where it is not known for the queue as a whole."""


class KeyRow(Answer):
    """One limit key or fair key."""

    key: str
    """The key."""
    waiting: int
    """Tasks with this key that wait."""
    running: int | None
    """Tasks with this key that run; null for a fair key, of which nobody counts them."""


class KeysAnswer(Answer):
    """The heaviest keys."""

    limit_keys: list[KeyRow]
    """The heaviest first."""
    fair_keys: list[KeyRow]
    """The heaviest first."""
    whole: bool
    """Whether all waiting tasks were looked at; otherwise these are the heaviest of a part."""


class QueueKeysRow(Answer):
    """One key, and its queue."""

    queue: str
    """The queue."""
    key: str
    """The key."""
    waiting: int
    """Tasks with this key that wait."""
    running: int | None
    """Tasks with this key that run; null for a fair key."""


class AllKeysAnswer(Answer):
    """The heaviest keys of all queues."""

    limit_keys: list[QueueKeysRow]
    """The heaviest first."""
    fair_keys: list[QueueKeysRow]
    """The heaviest first."""
    whole: bool
    """Whether all queues were looked at, and each as a whole."""
    problems: list[str] = Field(default_factory=list[str])
    """What cannot be read and is missing, in one line each."""


class QueueAnswer(Answer):
    """One queue."""

    row: QueueRow
    """Its row of the overview."""
    partitions: list[PartitionRow]
    """Its partitions."""
    options: dict[str, Any] | None
    """The options that the application gives it; null when the dashboard does not know the application."""
    limits: list[LimitRow]
    """Its limits, as far as they are known."""
    keys: KeysAnswer
    """Its heaviest keys."""
    states: dict[str, int]
    """The number of tasks by state: ready, running, delayed, parked, blocked, dead."""
    problems: list[str] = Field(default_factory=list[str])
    """What of it cannot be read and is missing, in one line each."""


class HistoryPoint(Answer):
    """The figures of one step. Gauges are the largest of the step; rates are null where no earlier point is known."""

    at: datetime
    """The start of the step."""
    ready: int
    """Ready tasks."""
    running: int
    """Running tasks."""
    delayed: int
    """Delayed tasks."""
    blocked: int
    """Blocked tasks."""
    dead: int
    """Dead letters."""
    oldest_age_seconds: float
    """The age of the task at the head."""
    enqueued_per_second: float | None
    """Tasks accepted."""
    finished_per_second: float | None
    """Tasks that ended."""
    failed_per_second: float | None
    """Tasks that became dead letters."""
    busy_slots: float | None
    """Slots that were busy with its tasks, on average."""


class HistoryAnswer(Answer):
    """The figures of one queue over time."""

    step_seconds: float
    """The distance of two points."""
    points: list[HistoryPoint]
    """The oldest first. A step without a record is missing."""


class PurgeOrder(Order):
    """The deletion of all waiting tasks of a queue."""

    confirm: str
    """The name of the queue, once more."""
