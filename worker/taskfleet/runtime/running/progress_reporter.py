"""Progress reports of tasks, at a rate that a tight loop cannot exceed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.protocol.bounds import windows
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.progress_report import pack_report
from taskfleet.runtime.running.interrupts import Interrupts
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.supervising import supervise

logger = showing.logger("taskfleet.worker")

INTERVAL_SECONDS = 0.25


class ProgressReporter:
    """Keeps the latest report of each task and sends all of them together, at most four times a second."""

    def __init__(self, context: RunContext, identity: Identity, slots: Slots, interrupts: Interrupts) -> None:
        self._context = context
        self._identity = identity
        self._slots = slots
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[Job, bytes]] = {}
        self._sending = False
        self._task: asyncio.Task[None] | None = None

    def report(self, job: Job, done: float, total: float | None, note: str) -> None:
        """Take a report, in any thread. Errors: `TypeError` for values that are no numbers."""
        report = pack_report(done, total, note)
        with self._lock:
            self._latest[job.id] = (job, report)
            start, self._sending = not self._sending, True
        if start:
            with contextlib.suppress(RuntimeError):  # a thread may outlive its loop
                # Not in the context of the task that reports first, since the reports of all tasks are sent together.
                self._context.loop.call_soon_threadsafe(self._start, context=self._context.variables.copy())

    def _start(self) -> None:
        self._task = self._context.spawn(supervise("sending progress", self._send))

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
            # The first report was sent at once; reports within the interval are sent together after it.
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _send_all(self, latest: dict[str, tuple[Job, bytes]]) -> None:
        by_partition: dict[Partition, list[tuple[Job, bytes]]] = defaultdict(list)
        for job, report in latest.values():
            if self._slots.runs(job):
                by_partition[job.partition].append((job, report))
        for partition, reports in by_partition.items():
            for start, stop, _ in windows(reports, _report_bytes):
                await self._send_some(partition, reports[start:stop])

    async def _send_some(self, partition: Partition, reports: list[tuple[Job, bytes]]) -> None:
        items = [(job.id, job.delivery, report) for job, report in reports]
        try:
            lost = await self._context.broker.report(partition, self._identity.incarnation, items)
        except (redis_exceptions.RedisError, OSError) as error:
            logger.debug("progress of queue %s is not sent: %s", partition, error)
            with self._lock:
                for job, report in reports:
                    self._latest.setdefault(job.id, (job, report))
            return
        for job, _ in reports:
            # Not for a run that has ended in the meantime, nor for another run of the same task.
            if job.id in lost and self._slots.runs(job):
                self._interrupts.interrupt([job.id], "lost")

    async def close(self) -> None:
        if self._task is not None:
            await end([self._task])


def _report_bytes(waiting: tuple[Job, bytes]) -> int:
    job, report = waiting
    return 4 * len(job.id) + len(report) + 16
