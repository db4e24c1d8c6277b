"""Batches: tasks of batch functions are gathered until a batch is full or its window has passed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskfleet.application import Application
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.batch_job import PendingBatch
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.job import Interruption, Job
from taskfleet.runtime.state.slots import Slots
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.namespace import CLASS_TASKS

if TYPE_CHECKING:
    from taskfleet.runtime.running.batch_runs import BatchRuns


def claim_size(share: int, capacity: int, batch_share: float) -> int:
    """The number of tasks to claim from a queue where batches gather.

    `share` is the number of slots for the queue, `capacity` the number of items that the gathering batches can still
    take, `batch_share` the fraction of the queue's recent claims that were batch items. The other claims need slots, so
    the expected number of them must not exceed `share`.
    """
    if batch_share >= 1.0:
        return max(share, capacity)
    return min(share + capacity, int(share / (1.0 - batch_share)))


class Batches:
    """The batches of one worker that have no slot yet: batches that gather, and closed ones that wait for a slot."""

    def __init__(
        self,
        application: Application,
        slots: Slots,
        held: Held,
        health: Health,
        runs: Callable[[], BatchRuns],
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
        self.added = 0  # all tasks that have gathered here so far
        self._known: dict[str, dict[str, Definition]] = {}  # queue → its batch tasks, present or possible
        self._batch_share: dict[str, float] = {}

    def prepare(self) -> None:
        """Read from the definitions which queues can have batches."""
        kinds: dict[str, set[bool]] = defaultdict(set)
        for definition in (*self._application.registry, *CLASS_TASKS):
            kinds[definition.options.queue].add(definition.batch is not None)
            if definition.batch is not None:
                self._known.setdefault(definition.options.queue, {})[definition.name] = definition
        self._batch_share = {queue: float(kinds[queue] == {True}) for queue in self._known}

    def __len__(self) -> int:
        """The number of tasks that are gathered and not running."""
        return len(self._gathered)

    def has(self, task_id: str) -> bool:
        """Whether this task is in a batch here, gathering or running."""
        return task_id in self._gathered or task_id in self._slots.items

    # Claiming.

    def widen(self, shares: dict[Partition, int], left: Callable[[Partition], int]) -> None:
        """Claim more tasks from partitions where batches gather.

        An item needs no slot until its batch runs. `left` is the number of tasks that were ready at the last reply.
        """
        if not self._known or self._slots.free <= 0:
            return  # without a free slot no batch can run: its items are left to other workers
        capacities: dict[str, int] = {}
        # The fullest first: a partition that is only asked whether it is still empty would take the room of the others.
        for partition in sorted(shares, key=left, reverse=True):
            share, queue = shares[partition], queue_of(partition)
            known = self._known.get(queue)
            if known is None or not share:
                continue
            self.widened.add(queue)
            capacity = capacities[queue] if queue in capacities else self._capacity(queue, known)
            shares[partition] = claim_size(share, capacity, self._batch_share.get(queue, 0.0))
            # The batches of a queue take items of all its partitions
            capacities[queue] = max(0, capacity - shares[partition])

    def _capacity(self, queue: str, known: dict[str, Definition]) -> int:
        """The number of items that the batches of a queue can still take."""
        capacity = 0
        for name, definition in known.items():
            assert definition.batch is not None
            gathering = self._open.get((queue, name))
            capacity += definition.batch.size - (len(gathering.items) if gathering is not None else 0)
        return capacity

    def learn(self, queue: str, items: int, total: int) -> None:
        """Take note that `items` of the last `total` claims of a queue were batch items."""
        self._batch_share[queue] = 0.5 * self._batch_share.get(queue, 0.0) + 0.5 * items / total

    # Gathering.

    def add(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Add a claimed task to the gathering batch, which runs when it is full or its window has passed."""
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
        """Close a batch that is full or whose window has passed: it gets the next free slot."""
        key = (batch.queue, batch.definition.name)
        if self._open.get(key) is not batch:
            return
        del self._open[key]
        batch.cancel_timer()
        self._slots.waiting.append(batch)
        self.start_waiting()

    def seconds_left(self) -> float | None:
        """The time until the first window of a gathering batch has passed; `None` when no batch gathers."""
        now = asyncio.get_running_loop().time()
        return min((one.timer.when() - now for one in self._open.values() if one.timer is not None), default=None)

    def move(self, seconds: float) -> None:
        """The time has been moved: windows end earlier."""
        loop = asyncio.get_running_loop()
        for gathering in self._open.values():
            if gathering.timer is not None:
                gathering.timer.cancel()
                gathering.timer = loop.call_at(gathering.timer.when() - seconds, self._close, gathering)

    def start_waiting(self) -> None:
        """Give free slots to closed batches."""
        slots = self._slots
        while slots.waiting and len(slots.running) < slots.usable and not self._health.claims_nothing:
            batch = slots.waiting.popleft()
            for task_id in batch.items:
                del self._gathered[task_id]
            self._runs().start(batch)

    def interrupt(self, task_id: str, why: Interruption) -> bool:
        """Remove a task that was cancelled or taken over; returns whether it is here.

        A gathering task leaves its batch. A task in a running batch cannot be stopped alone. If it was cancelled, its
        outcome is a success or the cancellation; if its lease was lost, its outcome is not recorded.
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
        """Return every task that is not running to its queue, the last claimed first."""
        jobs = [batch.items[task_id][0] for task_id, batch in self._gathered.items()]
        self._gathered.clear()
        for batch in (*self._open.values(), *self._slots.waiting):
            batch.cancel_timer()
        self._open.clear()
        self._slots.waiting.clear()
        for job in reversed(jobs):
            self._outcomes.hand_back(job.partition, job.id, job.delivery)
