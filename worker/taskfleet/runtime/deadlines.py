"""Timeouts of running tasks without a timer for each.

Tasks of one timeout start in the order in which they end, so a queue per timeout value is enough: starting costs an
append, and one timer stands at the earliest deadline of all.
"""

from __future__ import annotations

import asyncio
from collections import deque

from taskfleet.runtime.job import Job


class Deadlines:
    """Interrupts jobs that outlive their timeout."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: dict[str, Job]) -> None:
        self._loop = loop
        self._running = running
        self._queues: dict[float, deque[tuple[float, Job]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def watch(self, job: Job) -> None:
        if job.timeout is None:
            return
        deadline = job.started + job.timeout
        queue = self._queues.get(job.timeout)
        if queue is None:
            queue = self._queues[job.timeout] = deque()
        queue.append((deadline, job))
        if deadline < self._timer_at:
            self._arm(deadline)
        if len(queue) > 1024 and len(queue) > 8 * len(self._running):
            # Ended jobs behind a long-lived one would pile up until its deadline.
            alive = [(at, job) for at, job in queue if self._running.get(job.id) is job]
            queue.clear()
            queue.extend(alive)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._strike)

    def _strike(self) -> None:
        now = self._loop.time()
        self._timer, self._timer_at = None, float("inf")
        earliest = float("inf")
        for timeout, queue in list(self._queues.items()):
            while queue:
                deadline, job = queue[0]
                if self._running.get(job.id) is not job:
                    queue.popleft()
                elif deadline <= now:
                    queue.popleft()
                    job.interrupt("timeout")
                else:
                    earliest = min(earliest, deadline)
                    break
            else:
                del self._queues[timeout]
        if earliest < float("inf"):
            self._arm(earliest)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
