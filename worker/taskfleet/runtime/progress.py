"""Sending what tasks report of their progress, without letting a tight loop flood Redis."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.protocol.bounds import windows
from taskfleet.protocol.progress import pack_report
from taskfleet.runtime.job import Job
from taskfleet.supervising import supervise

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.worker")

INTERVAL_SECONDS = 0.25


class ProgressReporter:
    """Keeps the latest report of each task and sends all of them together, at most four times a second."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[Job, bytes]] = {}
        self._sending = False
        self._task: asyncio.Task[None] | None = None

    def report(self, job: Job, done: float, total: float | None, note: str) -> None:
        """Take a report, on any thread. Errors: `TypeError` when it is no numbers."""
        report = pack_report(done, total, note)
        with self._lock:
            self._latest[job.id] = (job, report)
            start, self._sending = not self._sending, True
        if start:
            loop = self._worker._loop
            assert loop is not None
            with contextlib.suppress(RuntimeError):  # a thread that outlives its loop: nobody will ask
                # Not in the context of the task that reports first: what is sent is everybody's.
                loop.call_soon_threadsafe(self._start, context=self._worker.context.copy())

    def _start(self) -> None:
        self._task = self._worker.spawn(supervise("sending progress", self._send))

    async def _send(self) -> None:
        while True:
            with self._lock:
                latest, self._latest = self._latest, {}
                if not latest:
                    self._sending = False
                    return
            try:
                await self._send_all(latest)
            except Exception:
                logger.exception("%d reports of progress cannot be sent", len(latest))
            # The first report went at once; what comes within the interval goes together after it.
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _send_all(self, latest: dict[str, tuple[Job, bytes]]) -> None:
        by_queue: dict[str, list[tuple[Job, bytes]]] = defaultdict(list)
        for job, report in latest.values():
            if self._worker.runs(job):
                by_queue[job.queue].append((job, report))
        for queue, reports in by_queue.items():
            for start, stop, _ in windows(reports, _report_bytes):
                await self._send_some(queue, reports[start:stop])

    async def _send_some(self, queue: str, reports: list[tuple[Job, bytes]]) -> None:
        worker = self._worker
        items = [(job.id, job.delivery, report) for job, report in reports]
        try:
            lost = await worker.queue.broker.report(queue, worker.incarnation, items)
        except (redis_exceptions.RedisError, OSError) as error:
            logger.debug("progress of queue %s is not sent: %s", queue, error)
            with self._lock:
                for job, report in reports:
                    self._latest.setdefault(job.id, (job, report))
            return
        for job, _ in reports:
            # Not one that has ended meanwhile, nor another run of the same task.
            if job.id in lost and worker.runs(job):
                worker.interrupt([job.id], "lost")

    async def close(self) -> None:
        if self._task is not None:
            await end([self._task])


def _report_bytes(waiting: tuple[Job, bytes]) -> int:
    job, report = waiting
    return 4 * len(job.id) + len(report) + 16
