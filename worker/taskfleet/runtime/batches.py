"""Gathering the tasks of batch functions until a batch is full or its window has passed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from taskfleet.application import Application
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.runtime.batch_job import PendingBatch
from taskfleet.runtime.batch_runs import BatchRuns
from taskfleet.runtime.health import Health
from taskfleet.runtime.held import Held
from taskfleet.runtime.job import Interruption, Job
from taskfleet.runtime.outcomes import Outcomes
from taskfleet.runtime.slots import Slots
from taskfleet.runtime.stopping import Stopping
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.namespace import CLASS_TASKS


def claim_size(share: int, capacity: int, batch_share: float) -> int:
    """How many tasks to claim from a queue where batches gather.

    `share` is for how many there are slots, `capacity` how many more items the gathering batches take, `batch_share`
    which part of the queue's tasks has lately been of batches. The rest of what is claimed needs slots, and must not be
    expected to be more than `share`.
    """
    if batch_share >= 1.0:
        return max(share, capacity)
    return min(share + capacity, int(share / (1.0 - batch_share)))


class Batches:
    """The batches of one worker that have no slot yet: those that gather, and those that are closed and wait."""

    def __init__(
        self,
        application: Application,
        slots: Slots,
        held: Held,
        health: Health,
        runs: BatchRuns,
        outcomes: Outcomes,
        stopping: Stopping,
    ) -> None:
        self._application = application
        self._slots = slots
        self._held = held
        self._health = health
        self._runs = runs
        self._outcomes = outcomes
        self._stopping = stopping
        self.widened: set[str] = set()  # queues whose claims of this turn were sized here
        self._open: dict[tuple[str, str], PendingBatch] = {}  # by queue and task name
        self._gathered: dict[str, PendingBatch] = {}  # by task id, in the order of the claims
        self.added = 0  # tasks that have ever gathered here
        self._known: dict[str, dict[str, Definition]] = {}  # queue → batch tasks that it has or may have
        self._batch_share: dict[str, float] = {}

    def prepare(self) -> None:
        """Learn from the definitions where batches can be expected."""
        kinds: dict[str, set[bool]] = defaultdict(set)
        for definition in (*self._application.registry, *CLASS_TASKS):
            kinds[definition.options.queue].add(definition.batch is not None)
            if definition.batch is not None:
                self._known.setdefault(definition.options.queue, {})[definition.name] = definition
        self._batch_share = {queue: float(kinds[queue] == {True}) for queue in self._known}

    def __len__(self) -> int:
        """How many tasks are gathered and do not run."""
        return len(self._gathered)

    def has(self, task_id: str) -> bool:
        """Whether this task gathers here, or runs in a batch."""
        return task_id in self._gathered or task_id in self._slots.items

    # Claiming.

    def widen(self, shares: dict[Partition, int]) -> None:
        """Raise how many tasks are claimed from partitions where batches gather.

        An item needs no slot before its batch runs.
        """
        if not self._known or self._slots.free <= 0:
            return  # without a free slot no batch could run: its items are left to other workers
        capacities: dict[str, int] = {}
        for partition, share in shares.items():
            queue = queue_of(partition)
            known = self._known.get(queue)
            if known is None or not share:
                continue
            self.widened.add(queue)
            capacity = capacities[queue] if queue in capacities else self._capacity(queue, known)
            shares[partition] = claim_size(share, capacity, self._batch_share.get(queue, 0.0))
            capacities[queue] = max(0, capacity - shares[partition])  # the partitions of a queue gather together

    def _capacity(self, queue: str, known: dict[str, Definition]) -> int:
        """How many more items the batches of a queue take before each is full."""
        capacity = 0
        for name, definition in known.items():
            assert definition.batch is not None
            gathering = self._open.get((queue, name))
            capacity += definition.batch.size - (len(gathering.items) if gathering is not None else 0)
        return capacity

    def learn(self, queue: str, items: int, total: int) -> None:
        """Of the last `total` claims of a queue so many were items of batches."""
        self._batch_share[queue] = 0.5 * self._batch_share.get(queue, 0.0) + 0.5 * items / total

    # Gathering.

    def add(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Take a claimed task into the batch that gathers, which runs when it is full or its window has passed."""
        definition = job.definition
        batch = definition.batch
        assert batch is not None
        queue = queue_of(job.partition)
        gathering = self._open.get((queue, definition.name))
        if gathering is None:
            gathering = self._open[queue, definition.name] = PendingBatch(queue, definition)
            self._known.setdefault(queue, {})[definition.name] = definition
            gathering.timer = asyncio.get_running_loop().call_later(batch.window, self._close, gathering)
        gathering.items[job.id] = (job, args, kwargs)
        self._gathered[job.id] = gathering
        self.added += 1
        if len(gathering.items) >= batch.size:
            self._close(gathering)

    def _close(self, batch: PendingBatch) -> None:
        """The batch is full, or its window has passed: it gets the next free slot."""
        key = (batch.queue, batch.definition.name)
        if self._open.get(key) is not batch:
            return
        del self._open[key]
        batch.cancel_timer()
        self._slots.waiting.append(batch)
        self.start_waiting()

    def start_waiting(self) -> None:
        """Give free slots to the batches that wait for one."""
        slots = self._slots
        while slots.waiting and len(slots.running) < slots.usable and not self._health.claims_nothing:
            batch = slots.waiting.popleft()
            for task_id in batch.items:
                del self._gathered[task_id]
            self._runs.start(batch)

    def interrupt(self, task_id: str, why: Interruption) -> bool:
        """One task was cancelled or taken over; returns whether it is here.

        One that gathers leaves. One whose batch runs cannot be stopped alone: if cancelled, its outcome decides, a
        success or the cancellation; if lost, its outcome is not recorded.
        """
        if (batch := self._gathered.pop(task_id, None)) is not None:
            job, _, _ = batch.items.pop(task_id)
            if not batch.items:
                self._drop(batch)
            if why == "cancel":
                self._outcomes.cancel(job)
            else:
                self._held.pop(task_id, None)
            return True
        entry = self._slots.items.get(task_id)
        if entry is None:
            return False
        running, job = entry
        if why == "lost":
            job.interruption = why
            if all(item.interruption == "lost" for item in running.items):
                self._stopping.stop(running, why)
        return True

    def _drop(self, batch: PendingBatch) -> None:
        batch.cancel_timer()
        if batch in self._slots.waiting:
            self._slots.waiting.remove(batch)
        else:
            self._open.pop((batch.queue, batch.definition.name), None)

    def hand_back(self) -> None:
        """Return every task that does not run yet to its queue; the last claimed first."""
        jobs = [batch.items[task_id][0] for task_id, batch in self._gathered.items()]
        self._gathered.clear()
        for batch in (*self._open.values(), *self._slots.waiting):
            batch.cancel_timer()
        self._open.clear()
        self._slots.waiting.clear()
        for job in reversed(jobs):
            self._outcomes.hand_back(job.partition, job.id, job.delivery)
