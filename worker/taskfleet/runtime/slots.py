"""The slots of a worker: which tasks run, and how many more could."""

from __future__ import annotations

from collections import deque

from taskfleet.runtime.batch_job import BatchJob, PendingBatch
from taskfleet.runtime.job import Job


class Slots:
    """The worker's loop changes it; other threads may read."""

    __slots__ = ("items", "running", "total", "usable", "waiting")

    def __init__(self, total: int) -> None:
        self.total = total
        self.usable = total  # the others are held by handlers that cannot be stopped
        self.running: dict[str, Job] = {}  # by task id; a batch has an id of its own
        self.items: dict[str, tuple[BatchJob, Job]] = {}  # the tasks of the batches that run, by id
        self.waiting: deque[PendingBatch] = deque()  # closed batches, each of which gets the next free slot

    @property
    def free(self) -> int:
        """How many slots neither a run nor a batch that waits needs. Negative when stuck handlers hold more."""
        return self.usable - len(self.running) - len(self.waiting)

    def runs(self, job: Job) -> bool:
        """Whether this very run goes on, alone or inside a batch."""
        return self.running.get(job.id) is job or self.runs_in_batch(job)

    def runs_in_batch(self, job: Job) -> bool:
        entry = self.items.get(job.id)
        return entry is not None and entry[1] is job

    def release(self, job: Job) -> None:
        """This run has ended. Nothing changes when its slot is another run's by now."""
        if self.running.get(job.id) is job:
            del self.running[job.id]
        elif self.runs_in_batch(job):
            del self.items[job.id]
