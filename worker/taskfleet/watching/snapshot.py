"""What was read: the state of a fleet at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from taskfleet.options import QueueOptions
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One queue. `stats` is missing until it was read, and of a queue whose keys cannot be read, which has a `problem`.

    The rates are tasks per second over the last seconds; `None` until there are two readings. `takers` workers claim
    its tasks. `options` are those that this program knows.
    """

    name: str
    stats: QueueStats | None
    options: QueueOptions
    takers: int
    problem: str = ""
    enqueued_per_second: float | None = None
    finished_per_second: float | None = None
    failed_per_second: float | None = None
    partitions: int = 1

    @property
    def state(self) -> str:
        """What keeps its tasks from starting, if anything does."""
        if self.problem:
            return "unreadable"
        if self.stats is None:
            return ""
        if self.stats.paused:
            return "paused"
        if not self.takers:
            return "unserved" if self.stats.ready or self.stats.delayed or self.stats.blocked else ""
        most = self.options.concurrency
        if most and self.stats.in_flight >= most:
            return f"limit {most}"
        return ""

    @property
    def limits(self) -> str:
        """The limits of its options."""
        rate, most = self.options.rate_limit, self.options.concurrency
        told = [f"{rate.tasks_per_second:g}/s"] if rate is not None else []
        return " ".join([*told, *([f"{most} at once"] if most else [])])


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker; its heartbeat is `beat_age_seconds` old."""

    info: WorkerInfo
    beat_age_seconds: float

    @property
    def oldest_run_seconds(self) -> float | None:
        """How long its oldest run has taken until now."""
        oldest = self.info.oldest_run_seconds
        return oldest + self.beat_age_seconds if self.info.busy and oldest else None


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run that goes on. Task and queue are empty while nobody has found them."""

    id: str
    task: str
    queue: str
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FailureLine:
    """A task that has failed for good."""

    id: str
    task: str
    queue: str
    worker: str
    reason: str
    error: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown. `unread` queues are still to be read; `at` is the time by the clock of this machine."""

    at: datetime
    queues: Sequence[QueueLine]
    workers: Sequence[WorkerLine]
    runs: Sequence[RunLine]
    failures: Sequence[FailureLine]
    unread: int = 0

    @property
    def stats(self) -> list[QueueStats]:
        """The figures of all queues that were read."""
        return [row.stats for row in self.queues if row.stats is not None]
