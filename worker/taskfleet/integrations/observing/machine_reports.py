"""The reports about this process, its machine and Redis."""

from __future__ import annotations

from datetime import datetime

from taskfleet.integrations.observing.report import Report


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
