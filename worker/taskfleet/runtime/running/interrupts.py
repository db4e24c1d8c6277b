"""Interrupts stop tasks that were cancelled, or that another worker has taken over."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.job import Interruption
from taskfleet.runtime.state.slots import Slots


class Interrupts:
    """Stops tasks by their ids: tasks that run, gather in a batch or wait for a slot."""

    def __init__(self, slots: Slots, held: Held, batches: Batches, stopping: Stopping, reports: Reports) -> None:
        self._slots = slots
        self._held = held
        self._batches = batches
        self._stopping = stopping
        self._reports = reports

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
        """Leases of these deliveries have gone to other workers."""
        self.interrupt(self._held.lost(deliveries), "lost")
