"""A worker that remembers the exceptions with which tasks have failed for good, with their tracebacks."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.runtime.recording.endings import Endings
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.ports import WorkerQueue
from taskfleet.runtime.worker import Worker


class WatchedEndings(Endings):
    """Endings that keep the exceptions by task id."""

    raised_by: dict[str, BaseException]

    def fail(self, job: Job, reason: str, message: str, text: str, error: BaseException | None = None) -> None:
        if error is not None:
            self.raised_by[job.id] = error
        super().fail(job, reason, message, text, error)


class WatchedWorker(Worker):
    """`raised_by` gets the exception of each task that fails for good."""

    endings_class = WatchedEndings

    def __init__(
        self,
        queue: WorkerQueue,
        raised_by: dict[str, BaseException],
        *,
        queues: Sequence[str],
        concurrency: int | None = None,
    ) -> None:
        super().__init__(queue, queues=queues, concurrency=concurrency, name="inline")
        assert isinstance(self.endings, WatchedEndings)
        self.endings.raised_by = raised_by
