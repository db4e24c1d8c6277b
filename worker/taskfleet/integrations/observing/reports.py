"""The reports that are made of others, and that about the tasks of the program."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import JsonValue

from taskfleet.integrations.observing.judgement_reports import AlertsReport
from taskfleet.integrations.observing.machine_reports import MemoryReport, ProcessReport, ServerReport, SystemReport
from taskfleet.integrations.observing.queue_reports import (
    AutoscalerReport,
    PerformanceReport,
    QueuesReport,
    WorkersReport,
)
from taskfleet.integrations.observing.report import Report


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
