"""Timeouts of running tasks, without a timer for each task.

There is one timer, for the earliest deadline. As long as most tasks have the same timeout, they start in the order of
their deadlines, so that adding a deadline to the heap is an append.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable

from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.run_context import RunContext

_FEW = 1024  # a heap of fewer entries is not searched for outdated ones


class Deadlines:
    """Calls `time_out` with each job that exceeds its timeout. Its memory is bounded by the number of running tasks."""

    def __init__(self, context: RunContext, running: dict[str, Job], time_out: Callable[[Job], None]) -> None:
        self._context = context
        self._running = running
        self._time_out = time_out
        # Ids instead of jobs, whose arguments would otherwise stay in memory until their deadlines.
        self._heap: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, job: Job) -> None:
        """Time the job out when it exceeds its timeout, if it has one."""
        if job.timeout is None:
            return
        heap = self._heap
        deadline = job.started + job.timeout
        heapq.heappush(heap, (deadline, job.id))
        if deadline < self._timer_at:
            self._arm(deadline)
        if len(heap) > _FEW and len(heap) > 8 * len(self._running):
            self._forget_ended()

    def _forget_ended(self) -> None:
        self._heap = [entry for entry in self._heap if self._job_of(entry) is not None]
        heapq.heapify(self._heap)

    def _job_of(self, entry: tuple[float, str]) -> Job | None:
        """The job of an entry, if that run is still going on."""
        deadline, task_id = entry
        job = self._running.get(task_id)
        if job is None or job.timeout is None or job.started + job.timeout != deadline:
            return None
        return job

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._context.loop.call_at(at, self._check)

    def _check(self) -> None:
        now = self._context.now()
        self._timer, self._timer_at = None, math.inf
        try:
            while self._heap:
                entry = self._heap[0]
                job = self._job_of(entry)
                if job is not None and entry[0] > now:
                    break
                heapq.heappop(self._heap)
                if job is not None:
                    self._time_out(job)
        finally:
            if self._heap:
                self._arm(self._heap[0][0])

    def move(self, seconds: float) -> None:
        """The time has been moved: running tasks have been running for longer."""
        for job in self._running.values():
            job.started -= seconds
        timed = [job for job in self._running.values() if job.timeout is not None]
        self._heap = [(job.started + (job.timeout or 0.0), job.id) for job in timed]
        heapq.heapify(self._heap)
        if self._heap:
            self._arm(self._heap[0][0])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
