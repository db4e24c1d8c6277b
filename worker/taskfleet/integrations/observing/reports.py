"""The reports about a Taskfleet and this process, as JSON. Each field says where its value comes from.

A figure that is not known is null, never 0. Counters begin with the first task of a queue. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue


class Report(BaseModel):
    """The base of all reports."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, ser_json_inf_nan="null")


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


class ProcessReport(Report):
    """This process, as its operating system and its interpreter describe it."""

    pid: int
    """Its id."""
    host: str
    """The name of its machine."""
    python: str
    """The version of the interpreter."""
    version: str
    """The version of Taskfleet."""
    started_at: datetime | None
    """When the process started (`/proc/self/stat`). Null where there is no `/proc`."""
    uptime_seconds: float | None
    """How long ago that was."""
    cpu_seconds: float
    """The processor time that it has used (`time.process_time`)."""
    threads: int
    """Its Python threads."""
    memory_bytes: int | None
    """Its resident memory (`/proc/self/statm`). Null where there is no `/proc`."""
    peak_memory_bytes: int | None
    """The most resident memory that it has had (`getrusage`)."""


class ServerReport(Report):
    """One Redis server, as its INFO describes it. A figure that it does not tell is null."""

    address: str
    """Its address, without credentials."""
    version: str | None
    """`valkey_version`, else `redis_version`."""
    uptime_seconds: int | None
    """`uptime_in_seconds`."""
    role: str | None
    """`role`."""
    connected_clients: int | None
    """`connected_clients`, of all programs."""
    commands_per_second: float | None
    """`instantaneous_ops_per_sec`, of all programs."""
    memory_bytes: int | None
    """`used_memory`, of everything that it holds."""
    peak_memory_bytes: int | None
    """`used_memory_peak`."""
    memory_limit_bytes: int | None
    """`maxmemory`. Null when there is no limit, or when it is not told."""
    memory_policy: str | None
    """`maxmemory_policy`: anything but `noeviction` may delete tasks."""
    memory_ratio: float | None
    """`memory_bytes` divided by `memory_limit_bytes`. Null without a limit."""
    evicted_keys: int | None
    """`evicted_keys` since it started. Each may have been a task."""
    persistent: bool | None
    """Whether it appends to a file (`aof_enabled`), or has saved a snapshot (`rdb_last_save_time` after its start)."""


class SystemReport(Report):
    """This process, its machine, and Redis."""

    process: ProcessReport
    """This process."""
    cpu_count: int | None
    """The processors of the machine (`os.cpu_count`)."""
    load_1m: float | None
    """The load of the machine in the last minute (`os.getloadavg`)."""
    redis: list[ServerReport] | None
    """The servers that hold the queues. Null when they do not tell; empty for queues in memory."""
    redis_unknown: str | None
    """Why `redis` is null."""
    at: datetime
    """The clock of this process."""


class MemoryReport(Report):
    """The memory of this process and of Redis."""

    process_bytes: int | None
    """As `ProcessReport.memory_bytes`."""
    process_peak_bytes: int | None
    """As `ProcessReport.peak_memory_bytes`."""
    redis: list[ServerReport] | None
    """As `SystemReport.redis`."""
    redis_unknown: str | None
    """Why `redis` is null."""
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


class MetricsReport(Report):
    """All figures in one answer, from one look at Redis."""

    queues: QueuesReport
    """As `/metrics/queues`."""
    workers: WorkersReport
    """As `/metrics/workers`."""
    performance: PerformanceReport
    """As `/metrics/performance`."""
    autoscaler: AutoscalerReport
    """As `/metrics/autoscaler`."""
    system: SystemReport
    """As `/metrics/system`."""
    memory: MemoryReport
    """As `/metrics/memory`."""


class TaskReport(Report):
    """One task that this program defines."""

    name: str
    """Its name."""
    kind: Literal["function", "class", "batch"]
    """How it is defined."""
    queue: str
    """The queue that its calls go to, unless a call says another."""
    max_retries: int
    """How often it is run again after a failure."""
    timeout_seconds: float | None
    """How long a run may take. Null without a limit."""
    executor: str
    """Where its function runs: async, thread or process."""
    defined_in: str
    """The module and the name of its function or class."""
    description: str | None
    """The first paragraph of its docstring."""
    path: str | None
    """Where to POST its arguments, below the prefix. Null where it cannot be enqueued over HTTP."""
    unavailable: str | None
    """Why it cannot be enqueued over HTTP."""
    arguments: dict[str, Any] | None
    """The JSON schema of its arguments."""


class RegistryReport(Report):
    """The tasks that this program defines."""

    tasks: list[TaskReport]
    """By name: the tasks of the queue, and all class tasks of the program."""
    count: int
    """Their number."""


class AlertReport(Report):
    """One rule that does not hold."""

    rule: str
    """The name of the rule."""
    severity: Literal["warning", "critical"]
    """`critical` when tasks stand still or may be lost."""
    queue: str | None
    """The queue that it is about."""
    subject: str | None
    """The worker or the server that it is about."""
    value: float | None
    """What was found."""
    threshold: float | None
    """What the rule allows."""
    message: str
    """What it means, in one sentence."""


class UnknownReport(Report):
    """One thing that cannot be judged."""

    rule: str
    """The name of the rule."""
    reason: str
    """What is missing."""


class AlertsReport(Report):
    """The rules that do not hold now."""

    alerts: list[AlertReport]
    """What is wrong now, critical first."""
    unknown: list[UnknownReport]
    """The rules that could not be judged: no alert of such a rule is no good news."""
    window_seconds: float | None
    """The window of the rules that compare counters. Null at the first look of this process."""
    at: datetime
    """The clock of this process."""


class ObjectiveReport(Report):
    """One objective of one queue."""

    queue: str
    """The queue."""
    objective: Literal["start_within_seconds", "success_ratio"]
    """`start_within_seconds`: the head of the queue waits no longer. `success_ratio`: at least this part of the tasks
    that ended in the window became no dead letter."""
    target: float
    """What was promised: an option of the router."""
    value: float | None
    """What was found. Null when it is not known."""
    met: bool | None
    """Whether it was kept. Null when it is not known."""


class SlaReport(Report):
    """Whether the objectives are met."""

    met: bool | None
    """False when any objective is not met; else null when any is not known; else true."""
    objectives: list[ObjectiveReport]
    """By queue."""
    window_seconds: float | None
    """The window of `success_ratio`. Null at the first look of this process."""
    at: datetime
    """The clock of this process."""


class DiagnosticsReport(Report):
    """What one needs to know to find out why something does not work."""

    process: ProcessReport
    """This process."""
    redis_address: str
    """Where the queues are, without credentials."""
    key_prefix: str | None
    """The start of all keys. Null for queues in memory."""
    servers: list[ServerReport] | None
    """As `SystemReport.redis`."""
    redis_unknown: str | None
    """Why `servers` is null."""
    clock_ahead_seconds: float | None
    """How far the clock of this process is ahead of that of Redis; it is behind when negative."""
    queue_options: list[dict[str, JsonValue]]
    """The options of the queues that this program has named."""
    tasks: int
    """How many tasks this program defines."""
    unreadable: dict[str, str]
    """Queues whose keys cannot be read, each with the reason."""
    skipped_records: int
    """Records of workers that were left out, because no version of Taskfleet wrote them."""
    undeclared_queues: list[str]
    """Queues that have had a task and that this program does not name."""
    other_versions: dict[str, int]
    """Workers of other versions than this process, by version."""
    alerts: AlertsReport
    """As `/alerts`."""


class UptimeReport(Report):
    """Since when everything runs."""

    started_at: datetime | None
    """When this process started. Null where there is no `/proc`."""
    uptime_seconds: float | None
    """How long ago that was."""
    router_seconds: float
    """How long ago the router was made, by the clock of this process."""
    redis_uptime_seconds: list[int] | None
    """`uptime_in_seconds` of each server. Null when they do not tell."""
    oldest_worker_started_at: datetime | None
    """The start of the worker that has run longest. Null without workers."""
    at: datetime
    """The clock of this process."""
