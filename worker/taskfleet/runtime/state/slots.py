"""The slots of a worker: the running tasks, and the room for more."""

from __future__ import annotations

from collections import deque

from taskfleet.runtime.state.batch_job import BatchJob, PendingBatch
from taskfleet.runtime.state.job import Job


class Slots:
    """The worker's loop changes it; other threads may read it."""

    __slots__ = ("items", "running", "total", "usable", "waiting")

    def __init__(self, total: int) -> None:
        self.total = total
        self.usable = total  # the other slots are held by handlers that cannot be stopped
        self.running: dict[str, Job] = {}  # by task id; a batch has a separate id
        self.items: dict[str, tuple[BatchJob, Job]] = {}  # the tasks of running batches, by id
        self.waiting: deque[PendingBatch] = deque()  # closed batches, each of which gets the next free slot

    @property
    def free(self) -> int:
        """The number of slots that no run and no closed batch needs. Negative when stuck handlers hold more."""
        return self.usable - len(self.running) - len(self.waiting)

    def runs(self, job: Job) -> bool:
        """Whether exactly this run is in progress, alone or inside a batch."""
        return self.running.get(job.id) is job or self.runs_in_batch(job)

    def runs_in_batch(self, job: Job) -> bool:
        entry = self.items.get(job.id)
        return entry is not None and entry[1] is job

    def release(self, job: Job) -> None:
        """End this run. It has no effect when another run has its slot by now."""
        if self.running.get(job.id) is job:
            del self.running[job.id]
        elif self.runs_in_batch(job):
            del self.items[job.id]
