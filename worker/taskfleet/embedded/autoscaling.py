"""The autoscaler for workers inside an application: the decision about their number, and the loop that applies it.

Pods are scaled by the operator's autoscaler. This one serves an application that runs its own workers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from taskfleet import background, showing
from taskfleet.application import Application
from taskfleet.cancellation import end
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.partitions import queue_of
from taskfleet.runtime.state import selection
from taskfleet.session import LoopWorkers, Sessions
from taskfleet.settings import AutoscalerSettings
from taskfleet.supervising import supervise

logger = showing.logger("taskfleet.autoscaler")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks, the number of looks in a row that must agree, and seconds for a change to take effect."""

    interval: float = 1.0
    looks_up: int = 2
    looks_down: int = 5
    settle: float = 5.0


@dataclass(frozen=True, slots=True)
class LocalSample:
    """The figures at `at` (s of any clock). `busy` of `slots` are in use by the `workers` that claim tasks."""

    at: float
    ready: int
    workers: int
    busy: int
    slots: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The state that a decision keeps for the next ones."""

    above: int = 0  # looks in a row
    below: int = 0
    changed_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class LocalDecision:
    """The number of workers to add, or to remove when `change` is negative, and the reason."""

    change: int
    reason: str
    memory: Memory


def decide(sample: LocalSample, limits: AutoscalerSettings, pace: Pace, memory: Memory) -> LocalDecision:
    """Compare ready tasks per worker with the thresholds.

    Outside of `min_workers` to `max_workers` it acts at once. It adds no worker while the free slots amount to a whole
    worker, since a rate limit or a concurrency limit is then holding the tasks back. It removes no worker when the
    running tasks would not fit into the remaining slots.
    """
    workers = sample.workers
    if workers < limits.min_workers:
        return _change(sample, limits.min_workers - workers, f"min_workers={limits.min_workers}")
    if workers > limits.max_workers:
        return _change(sample, limits.max_workers - workers, f"max_workers={limits.max_workers}")
    load = sample.ready / workers
    settling = sample.at - memory.changed_at < pace.settle
    each = sample.slots / workers
    told = f"{sample.ready} ready tasks are {load:.3g} for each of {workers} workers"
    if load > limits.scale_up_threshold:
        told = f"{told}, more than scale_up_threshold={limits.scale_up_threshold:g}"
        free = sample.slots - sample.busy
        if workers == limits.max_workers:
            return LocalDecision(0, f"{told}, but max_workers={limits.max_workers}", replace(memory, above=0, below=0))
        if free >= each:
            return LocalDecision(0, f"{told}, but {free} slots are free", replace(memory, above=0, below=0))
        memory = replace(memory, above=memory.above + 1, below=0)
        if memory.above < pace.looks_up or settling:
            return LocalDecision(0, f"{told}, {memory.above} times in a row", memory)
        return _change(sample, min(limits.scale_up_count, limits.max_workers - workers), told)
    if load < limits.scale_down_threshold and workers > limits.min_workers:
        told = f"{told}, less than scale_down_threshold={limits.scale_down_threshold:g}"
        fewer = min(limits.scale_down_count, workers - limits.min_workers)
        if sample.busy > (workers - fewer) * each:
            told = f"{told}, but {sample.busy} tasks run, which would not fit into {workers - fewer}"
            return LocalDecision(0, told, replace(memory, above=0, below=0))
        memory = replace(memory, above=0, below=memory.below + 1)
        if memory.below < pace.looks_down or settling:
            return LocalDecision(0, f"{told}, {memory.below} times in a row", memory)
        return _change(sample, -fewer, told)
    return LocalDecision(0, told, replace(memory, above=0, below=0))


def _change(sample: LocalSample, change: int, reason: str) -> LocalDecision:
    return LocalDecision(change, reason, Memory(changed_at=sample.at))


class Autoscaler:
    """Looks, decides and acts until it is stopped."""

    def __init__(
        self,
        application: Application,
        sessions: Sessions,
        workers: LoopWorkers,
        limits: AutoscalerSettings,
        *,
        pace: Pace | None = None,
    ) -> None:
        self._application = application
        self._sessions = sessions
        self._workers = workers
        self._limits = limits
        self._pace = pace or Pace()
        self.last_change: LocalDecision | None = None
        self._task = background.start(supervise("the autoscaler", self._run), context=background.of_the_application())

    async def stop(self) -> None:
        """Make no more decisions. The workers stay as they are."""
        if not self._task.done():
            await end([self._task])

    async def _run(self) -> None:
        memory, failing = Memory(), False
        while True:
            try:
                sample = await self._look()
            except TaskQueueError as error:
                if not failing:
                    logger.warning("%d workers stay as they are: %s", self._workers.active, error)
                failing = True
            else:
                failing = False
                decision = decide(sample, self._limits, self._pace, memory)
                memory = decision.memory
                self._act(sample, decision)
            await asyncio.sleep(self._pace.interval)

    def _act(self, sample: LocalSample, decision: LocalDecision) -> None:
        after = sample.workers + decision.change
        level = logging.INFO if decision.change else logging.DEBUG
        logger.log(level, "%d -> %d workers: %s", sample.workers, after, decision.reason)
        if decision.change:
            self.last_change = decision
        if decision.change > 0:
            self._workers.start(decision.change, None)
        elif decision.change < 0:
            self._workers.retire(-decision.change)

    async def _look(self) -> LocalSample:
        tiers = selection.tiers_of(self._application, None)
        names = sorted({queue_of(name) for tier in tiers for name in tier.names})
        stats = await self._sessions.broker.stats_many(names)
        return LocalSample(
            at=asyncio.get_running_loop().time(),
            # Tasks of paused queues cannot be claimed.
            ready=sum(each.ready for each in stats.values() if not each.paused),
            workers=self._workers.active,
            busy=self._workers.busy,
            slots=self._workers.slots,
        )
