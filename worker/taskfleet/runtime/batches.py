"""Gathering the tasks of a batch function, and running it on many of them at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskfleet import context, describing
from taskfleet.context import TaskContext
from taskfleet.protocol.partitions import queue_of
from taskfleet.runtime.job import Interruption, Job
from taskfleet.tasks.batch import BatchItem
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.namespace import CLASS_TASKS

if TYPE_CHECKING:
    from taskfleet.protocol.claim import Claim
    from taskfleet.runtime.execution import Execution
    from taskfleet.runtime.worker import Worker


def claim_size(share: int, capacity: int, batch_share: float) -> int:
    """How many tasks to claim from a queue where batches gather.

    `share` is for how many there are slots, `capacity` how many more items the gathering batches take, `batch_share`
    which part of the queue's tasks has lately been of batches. The rest of what is claimed needs slots, and must not be
    expected to be more than `share`.
    """
    if batch_share >= 1.0:
        return max(share, capacity)
    return min(share + capacity, int(share / (1.0 - batch_share)))


class Gathering:
    """The items of one batch to be, by id, in the order in which they were claimed."""

    __slots__ = ("definition", "items", "queue", "timer")

    def __init__(self, queue: str, definition: Definition) -> None:
        self.queue = queue
        self.definition = definition
        self.items: dict[str, tuple[Job, list[Any], dict[str, Any]]] = {}
        self.timer: asyncio.TimerHandle | None = None


class BatchJob(Job):
    """One run of a batch function: it holds the slot, its items hold the leases."""

    __slots__ = ("items",)

    def __init__(self, items: list[Job], started: float) -> None:
        first = items[0]
        super().__init__(f"batch:{first.id}", first.queue, 1, 1, first.envelope, first.definition, started)
        self.items = items
        self.timeout = min((job.timeout for job in items if job.timeout is not None), default=None)
        for job in items:
            job.started, job.timeout = started, self.timeout

    def context(self) -> TaskContext:
        raise RuntimeError("a batch has no task of its own: use item.context in place of current_task()")


class Batches:
    """The batches of one worker: those that gather, those that wait for a slot, and those that run."""

    def __init__(self, worker: Worker, execution: Execution) -> None:
        self._worker = worker
        self._execution = execution
        self.waiting: deque[Gathering] = deque()
        self.asked: set[str] = set()  # queues whose claims of this turn were sized here
        self._open: dict[tuple[str, str], Gathering] = {}
        self._gathered: dict[str, Gathering] = {}  # id → where it is, in the order of the claims
        self._running: dict[str, tuple[BatchJob, Job]] = {}  # id → the run it is in
        self._added = 0  # in all
        self._known: dict[str, dict[str, Definition]] = {}  # queue → batch tasks that it has or may have
        self._batch_share: dict[str, float] = {}

    def prepare(self) -> None:
        """Learn from the definitions where batches can be expected."""
        kinds: dict[str, set[bool]] = defaultdict(set)
        for definition in (*self._worker.queue.registry, *CLASS_TASKS):
            kinds[definition.options.queue].add(definition.batch is not None)
            if definition.batch is not None:
                self._known.setdefault(definition.options.queue, {})[definition.name] = definition
        self._batch_share = {queue: float(kinds[queue] == {True}) for queue in self._known}

    def __len__(self) -> int:
        """How many tasks are gathered and do not run."""
        return len(self._gathered)

    def runs(self, job: Job) -> bool:
        entry = self._running.get(job.id)
        return entry is not None and entry[1] is job

    # Claiming.

    def widen(self, shares: dict[str, int]) -> None:
        """Raise what is claimed from queues where batches gather: an item needs no slot before its batch runs."""
        if not self._known:
            return
        worker = self._worker
        if len(worker.running) + len(self.waiting) >= worker.usable:
            return  # what would gather now could not run: it is left to others
        capacities: dict[str, int] = {}
        for place, share in shares.items():
            queue = queue_of(place)
            known = self._known.get(queue)
            if known is None or not share:
                continue
            self.asked.add(queue)
            capacity = capacities[queue] if queue in capacities else self._capacity(queue, known)
            shares[place] = claim_size(share, capacity, self._batch_share.get(queue, 0.0))
            capacities[queue] = max(0, capacity - shares[place])  # its partitions gather together

    def _capacity(self, queue: str, known: dict[str, Definition]) -> int:
        capacity = 0
        for name, definition in known.items():
            assert definition.batch is not None
            gathering = self._open.get((queue, name))
            capacity += definition.batch.size - (len(gathering.items) if gathering is not None else 0)
        return capacity

    def start_claimed(self, claims: Sequence[Claim], prefetch: int) -> tuple[list[Claim], list[Claim]]:
        """Start what has a slot and gather what belongs to batches, in order.

        Returns what stays prefetched, and what was claimed beyond that and has to go back.
        """
        worker, asked = self._worker, self.asked
        self.asked = set()
        left: list[Claim] = []
        counts = {queue: [0, 0] for queue in asked}
        for claim in claims:
            queue, task_id = queue_of(claim[0]), claim[1]
            if worker.held.get(task_id) != (claim[0], claim[4]):
                continue
            full = len(worker.running) + len(self.waiting) >= worker.usable
            before = self._added
            if not self._execution.start(*claim, only_gather=full):
                left.append(claim)
            if queue in counts:
                counts[queue][0] += self._added - before
                counts[queue][1] += 1
        for queue, (items, total) in counts.items():
            if total:
                self._batch_share[queue] = 0.5 * self._batch_share.get(queue, 0.0) + 0.5 * items / total
        return left[:prefetch], left[prefetch:]

    # Gathering.

    def add(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Take a claimed task into the batch that gathers, which runs when it is full or its time has come."""
        definition = job.definition
        batch = definition.batch
        assert batch is not None
        queue = queue_of(job.queue)
        gathering = self._open.get((queue, definition.name))
        if gathering is None:
            gathering = self._open[queue, definition.name] = Gathering(queue, definition)
            self._known.setdefault(queue, {})[definition.name] = definition
            gathering.timer = asyncio.get_running_loop().call_later(batch.window, self._close, gathering)
        gathering.items[job.id] = (job, args, kwargs)
        self._gathered[job.id] = gathering
        self._added += 1
        if len(gathering.items) >= batch.size:
            self._close(gathering)

    def _close(self, gathering: Gathering) -> None:
        """Full, or time is up: the next free slot is its own."""
        key = (gathering.queue, gathering.definition.name)
        if self._open.get(key) is not gathering:
            return
        del self._open[key]
        if gathering.timer is not None:
            gathering.timer.cancel()
        self.waiting.append(gathering)
        self.start_waiting()

    def start_waiting(self) -> None:
        worker = self._worker
        while self.waiting and len(worker.running) < worker.usable and not worker.draining and not worker.cordoned:
            self._run(self.waiting.popleft())

    def interrupt(self, task_id: str, why: Interruption) -> bool:
        """One task was cancelled or taken over; returns whether it is here.

        One that gathers leaves. One whose batch runs cannot be stopped alone: if cancelled, its outcome decides, a
        success or the cancellation; if lost, its outcome is not told to anybody.
        """
        if (gathering := self._gathered.pop(task_id, None)) is not None:
            job, _, _ = gathering.items.pop(task_id)
            if not gathering.items:
                self._drop(gathering)
            if why == "cancel":
                self._execution.cancel_unstarted(job)
            else:
                self._worker.held.pop(task_id, None)
            return True
        entry = self._running.get(task_id)
        if entry is None:
            return False
        batch, job = entry
        if why == "lost":
            job.interruption = why
            if all(one.interruption == "lost" for one in batch.items):
                self._worker.stopping.stop(batch, why)
        return True

    def _drop(self, gathering: Gathering) -> None:
        if gathering.timer is not None:
            gathering.timer.cancel()
        if gathering in self.waiting:
            self.waiting.remove(gathering)
        else:
            self._open.pop((gathering.queue, gathering.definition.name), None)

    def hand_back(self) -> list[Job]:
        """Give up everything that does not run; the last claimed first."""
        jobs = [gathering.items[task_id][0] for task_id, gathering in self._gathered.items()]
        self._gathered.clear()
        for gathering in (*self._open.values(), *self.waiting):
            if gathering.timer is not None:
                gathering.timer.cancel()
        self._open.clear()
        self.waiting.clear()
        return jobs[::-1]

    # Running.

    def _run(self, gathering: Gathering) -> None:
        worker, execution = self._worker, self._execution
        jobs: list[Job] = []
        items: list[BatchItem] = []
        expired: list[Job] = []
        for job, args, kwargs in gathering.items.values():
            del self._gathered[job.id]
            expires = job.setting("x", None)
            if expires is not None and expires <= worker.redis_seconds(job.queue):
                expired.append(job)
                continue
            jobs.append(job)
            items.append(BatchItem(job.id, tuple(args), kwargs, job.context))
        if jobs:
            batch = BatchJob(jobs, worker.now())
            for job in jobs:
                self._running[job.id] = (batch, job)
            execution.launch(batch, self._call(batch, items), worker.context.copy())
        # Not before the batch has its slot: recording an outcome may start something else.
        for job in expired:
            execution.expire(job)

    async def _call(self, batch: BatchJob, items: list[BatchItem]) -> None:
        context.CURRENT.set(batch.context)
        execution = self._execution
        try:
            if batch.interruption is not None:
                raise asyncio.CancelledError  # interrupted before its first step
            outcomes = await execution.call_batch(batch, items)
            if batch.interruption is not None:
                raise asyncio.CancelledError  # swallowed; what it returned came too late to count
        except BaseException as error:
            execution.note_cancellation(batch, error)
            self._fail_all(batch, error)
        else:
            problem, values = _values_of(outcomes, len(items))
            for job, value in zip(self._ended(batch), values, strict=False):
                if job.interruption == "lost":
                    execution.forget(job)
                elif problem:
                    execution.fail(job, "bad_outcomes", f"batch task {batch.definition.name!r} {problem}", "")
                elif issubclass(type(value), BaseException):
                    execution.ended_badly(job, value, "")
                else:
                    execution.succeed(job, value)

    def _fail_all(self, batch: BatchJob, error: BaseException) -> None:
        text = describing.trace(error)
        for job in self._ended(batch):
            job.interruption = job.interruption or batch.interruption
            self._execution.ended_badly(job, error, text)

    def give_up(self, batch: BatchJob) -> None:
        """Record the end of a batch whose handler goes on though it was stopped."""
        self._fail_all(batch, asyncio.CancelledError())

    def _ended(self, batch: BatchJob) -> list[Job]:
        """The items whose outcomes are to be recorded; the slot is free."""
        worker = self._worker
        if worker.running.get(batch.id) is not batch:
            for job in batch.items:
                if self.runs(job):
                    del self._running[job.id]
            return []  # given up: its items are another run's by now
        del worker.running[batch.id]
        batch.task = None  # as for other jobs: the circle through its context would be left to the collector
        now = worker.now()
        for position, job in enumerate(batch.items):
            # One slot was busy, not one for each of them.
            job.started = batch.started if position == 0 else now
            job.billed_ms = batch.billed_ms if position == 0 else 0
        # The rate is that of the slots: it says how far ahead to claim.
        self._execution.finished -= len(batch.items) - 1
        return batch.items

    def has(self, task_id: str) -> bool:
        """Whether this task gathers or runs here."""
        return task_id in self._gathered or task_id in self._running

    def release(self, job: Job) -> bool:
        """Whether this item's outcome is still to be recorded; only once."""
        if not self.runs(job):
            return False
        del self._running[job.id]
        return True


def _values_of(outcomes: Any, count: int) -> tuple[str, list[Any]]:
    """What is wrong with what a batch function has returned, and an outcome for each item."""
    nothing: list[Any] = [None] * count
    kind = type(outcomes)
    if not issubclass(kind, (list, tuple)):
        name = describing.name_of(kind)
        return f"returned {name}, not a list with one outcome for each of its {count} items", nothing
    try:
        values = list(outcomes)
    except BaseException as error:
        return f"returned a list that cannot be read: {describing.describe(error)}", nothing
    if len(values) != count:
        return f"returned {len(values)} outcomes for {count} items; return one for each, in order", nothing
    return "", values
