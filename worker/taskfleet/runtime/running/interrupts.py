"""Interrupts stop tasks that were cancelled, or that were taken from this worker when their leases had expired."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.job import Interruption, Job
from taskfleet.runtime.state.slots import Slots


class Interrupts:
    """Stops tasks by their ids: tasks that run, gather in a batch or wait for a slot."""

    def __init__(self, slots: Slots, held: Held, batches: Batches, stopping: Stopping, reports: Reports) -> None:
        self._slots = slots
        self._held = held
        self._batches = batches
        self._stopping = stopping
        self._reports = reports
        self._unknown: set[str] = set()  # tasks that run here and of which Redis knows nothing

    def interrupt(self, ids: Sequence[str], why: Interruption) -> None:
        """Stop those of the tasks that this worker holds."""
        for task_id in ids:
            job = self._slots.running.get(task_id)
            if job is None and self._batches.interrupt(task_id, why):
                continue
            if why == "lost" and job is None:
                # Prefetched, or finished and not yet recorded: an outcome would have no effect.
                self._held.pop(task_id, None)
            elif job is not None:
                if why == "lost":
                    self._reports.lost(job)
                self._stopping.stop(job, why)

    def lost(self, deliveries: dict[str, int]) -> None:
        """These deliveries were taken from this worker: other workers have them or will get them."""
        self.interrupt(self._held.lost(deliveries), "lost")

    def unknown(self, deliveries: dict[str, int], were_held: bool) -> None:
        """Redis knows nothing of these deliveries: it has lost its data, or they have ended elsewhere.

        What runs goes on, since no other worker will do the work. With `were_held` nobody can have taken them since the
        last renewal, so that they are lost data, and those that have not started run as well; without it they may have
        ended elsewhere, and are dropped.
        """
        ids = self._held.lost(deliveries)
        runs = {task_id: job for task_id in ids if (job := self._run_of(task_id)) is not None}
        for task_id in runs.keys() - self._unknown:
            self._reports.unknown(runs[task_id])
        self._unknown = set(runs)
        if not were_held:
            self.interrupt([task_id for task_id in ids if task_id not in runs], "lost")

    def _run_of(self, task_id: str) -> Job | None:
        """The run of a task, alone or in a batch."""
        alone = self._slots.running.get(task_id)
        return alone if alone is not None else self._slots.items.get(task_id, (None, None))[1]
