"""The reports about queues and workers. Counters begin with the first task of a queue."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from taskfleet.integrations.observing.report import Report


class ReachabilityReport(Report):
    """Whether Redis answers."""

    reachable: bool
    """Whether Redis answered a PING of this process in time."""
    latency_ms: float | None
    """How long that took by the clock of this process, with opening a connection if none was free. Null when it
    failed."""
    error: str | None
    """Why it failed. Null when it did not."""


class HealthReport(Report):
    """Whether this process can reach its queues."""

    status: Literal["healthy", "unhealthy"]
    """`healthy` when Redis is reachable. Workers do not count: without any, tasks are still accepted."""
    redis: ReachabilityReport
    """The PING."""
    at: datetime
    """The clock of this process."""


class FleetCountReport(Report):
    """The number of workers."""

    live: int
    """Workers with a heartbeat that has not expired (Redis)."""
    draining: int
    """Of these, the workers that leave or are cordoned (heartbeats)."""
    slots: int
    """How many tasks they can run at once (heartbeats)."""
    busy: int
    """How many of these slots are in use (heartbeats)."""
    stuck: int
    """Slots that are held by handlers which cannot be stopped (heartbeats)."""
    here: int
    """Workers that run in this process (this process)."""


class BacklogReport(Report):
    """The sums of all queues."""

    queues: int
    """Queues that have had a task, or that this program declares (Redis, this process)."""
    ready: int
    """Tasks that wait for a worker (Redis)."""
    in_flight: int
    """Tasks that are claimed (Redis)."""
    delayed: int
    """Tasks that wait for their time, or for their limit key (Redis)."""
    blocked: int
    """Tasks that wait for other tasks (Redis)."""
    dead: int
    """Dead letters (Redis)."""
    paused: list[str]
    """The queues that are paused (Redis)."""


class StatusReport(Report):
    """Health, workers and backlog at a glance."""

    health: HealthReport
    """As `/health`."""
    workers: FleetCountReport
    """The fleet."""
    backlog: BacklogReport
    """All queues together."""
    version: str
    """The version of Taskfleet in this process."""
    at: datetime
    """The clock of this process."""


class QueueReport(Report):
    """The figures of one queue, as Redis has them."""

    name: str
    """The name of the queue."""
    paused: bool
    """Whether workers claim none of its tasks."""
    ready: int
    """Tasks that wait for a worker."""
    in_flight: int
    """Tasks that are claimed."""
    delayed: int
    """Tasks that wait for their time, or for a slot or token of their limit key."""
    due: int
    """Of these, the tasks whose time has come."""
    parked: int
    """Of the delayed tasks, those that wait for their limit key."""
    blocked: int
    """Tasks that wait for other tasks."""
    dead: int
    """Dead letters that are kept."""
    oldest_age_seconds: float | None
    """How long the head of the queue has been ready. Null when no task is ready."""
    enqueued_total: int
    """Tasks that were accepted."""
    finished_total: int
    """Tasks that ended, in whatever way."""
    failed_total: int
    """Of these, the tasks that became dead letters."""
    attempts_total: int
    """Runs that ended, with whatever outcome."""
    busy_seconds_total: float
    """The time for which handlers ran."""
    max_length: int | None
    """The most waiting tasks that this program's options let in. Null without a limit, or where it has no options."""
    workers: int
    """Live workers that take this queue, by their heartbeats."""


class QueuesReport(Report):
    """The figures of all queues."""

    queues: list[QueueReport]
    """By name: queues that have had a task, and queues that this program declares."""
    unreadable: dict[str, str]
    """Queues whose keys cannot be read, each with the reason."""
    at: datetime
    """The clock of this process."""


class WorkerReport(Report):
    """One worker, as its last heartbeat describes it."""

    worker_id: str
    """The worker's name, and its number in its process."""
    name: str
    """The name of its pod, or the name it was given."""
    pid: int | None
    """Its process id on its machine."""
    state: str
    """starting, running, draining, cordoned or drained."""
    queues: list[str]
    """The queues that it takes."""
    slots: int
    """How many tasks it can run at once."""
    busy: int
    """How many of its slots are in use."""
    stuck: int
    """Slots that are held by handlers which cannot be stopped."""
    heartbeat_age_seconds: float
    """The age of the heartbeat, by the clock of Redis."""
    idle_seconds: float | None
    """How long it has held no task. Null while it holds one."""
    oldest_run_seconds: float | None
    """How long its oldest run had taken at the heartbeat. Null without a run."""
    started_at: datetime | None
    """When it started, by its own clock."""
    version: str | None
    """Its version of Taskfleet."""


class WorkersReport(Report):
    """All workers whose heartbeat has not expired."""

    workers: list[WorkerReport]
    """The workers of all processes that share the Redis and the key prefix."""
    total: FleetCountReport
    """Their sums."""
    at: datetime
    """The clock of this process."""


class PerformanceOfQueueReport(Report):
    """How fast one queue is. The window is the time between two looks of this process at the counters in Redis."""

    name: str
    """The name of the queue."""
    enqueued_per_second: float | None
    """Tasks that were accepted in the window, by its length."""
    finished_per_second: float | None
    """Tasks that ended in the window, by its length."""
    failed_per_second: float | None
    """Tasks that became dead letters in the window, by its length."""
    mean_run_seconds: float | None
    """The mean time of the runs that ended in the window. Null when none did."""
    success_ratio: float | None
    """Of the tasks that ended in the window, the part that became no dead letter. Null when none ended."""
    lifetime_mean_run_seconds: float | None
    """The mean time of all runs since the first task of the queue."""
    lifetime_success_ratio: float | None
    """Of all tasks that ended since the first task of the queue, the part that became no dead letter."""
    oldest_age_seconds: float | None
    """How long the head of the queue has been ready. Null when no task is ready."""


class PerformanceReport(Report):
    """How fast the queues are."""

    window_seconds: float | None
    """The length of the window. Null at the first look of this process, which has nothing to compare with."""
    queues: list[PerformanceOfQueueReport]
    """By name."""
    at: datetime
    """The clock of this process."""


class AutoscalerReport(Report):
    """The autoscaler of this process, which `TaskQueueBuilder.with_autoscaler` adds.

    Nothing here is about the operator's autoscaler: its decisions are in the status of the TaskQueue resource.
    """

    running: bool
    """Whether an autoscaler runs in this process."""
    workers: int
    """Workers that run in this process."""
    min_workers: int | None
    """`autoscaler.min_workers`. Null when none runs."""
    max_workers: int | None
    """`autoscaler.max_workers`. Null when none runs."""
    scale_up_threshold: float | None
    """`autoscaler.scale_up_threshold`. Null when none runs."""
    scale_down_threshold: float | None
    """`autoscaler.scale_down_threshold`. Null when none runs."""
    last_change: int | None
    """How many workers its last decision added, or removed when negative. Null before the first."""
    last_reason: str | None
    """The reason of that decision."""
    at: datetime
    """The clock of this process."""
