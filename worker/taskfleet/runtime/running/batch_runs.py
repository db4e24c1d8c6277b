"""Runs of batch functions, which give each item an outcome."""

from __future__ import annotations

import asyncio
from typing import Any

from taskfleet import context, describing
from taskfleet.protocol import call_settings
from taskfleet.runtime.recording.endings import Endings
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.running.calls import Calls
from taskfleet.runtime.running.launcher import Launcher
from taskfleet.runtime.running.runner import OutsideCancellations
from taskfleet.runtime.state.batch_job import BatchJob, PendingBatch
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally
from taskfleet.tasks.batch import BatchItem, ItemArguments, ValuedItem


class BatchRuns:
    """Gives a batch its slot, runs it, and records the outcome of each item."""

    def __init__(
        self,
        context: RunContext,
        slots: Slots,
        launcher: Launcher,
        calls: Calls,
        endings: Endings,
        outcomes: Outcomes,
        cancellations: OutsideCancellations,
        tally: Tally,
    ) -> None:
        self._context = context
        self._slots = slots
        self._launcher = launcher
        self._calls = calls
        self._endings = endings
        self._outcomes = outcomes
        self._cancellations = cancellations
        self._tally = tally

    def start(self, pending: PendingBatch) -> None:
        """Run the items of a batch that has a free slot, without items that have expired in the meantime."""
        jobs: list[Job] = []
        items: list[BatchItem[Any]] = []
        expired: list[Job] = []
        for job, args, kwargs in pending.items.values():
            expires = job.setting(call_settings.EXPIRES_AT, None)
            if expires is not None and expires <= self._context.redis_seconds(job.partition):
                expired.append(job)
                continue
            jobs.append(job)
            if type(args) is ItemArguments:
                items.append(ValuedItem(job.id, tuple(args), kwargs, job.context, args.value))
            else:
                items.append(BatchItem(job.id, tuple(args), kwargs, job.context))
        if jobs:
            batch = BatchJob(jobs, self._context.now())
            for job in jobs:
                self._slots.items[job.id] = (batch, job)
            self._launcher.launch(batch, self._run(batch, items), self._context.variables.copy())
        # Only when the batch has its slot: posting an outcome may start another task.
        for job in expired:
            self._outcomes.expire(job.partition, job.id, job.delivery)

    async def _run(self, batch: BatchJob, items: list[BatchItem[Any]]) -> None:
        context.CURRENT.set(batch.context)
        try:
            if batch.interruption is not None:
                raise asyncio.CancelledError  # interrupted before its first step
            outcomes = await self._calls.batch(batch, items)
            if batch.interruption is not None:
                raise asyncio.CancelledError  # swallowed by the handler, whose outcomes came too late to count
        except BaseException as error:
            self._cancellations.note(batch, error)
            self._fail_all(batch, error)
        else:
            self._end_each(batch, outcomes)

    def _end_each(self, batch: BatchJob, outcomes: Any) -> None:
        problem, values = _values_of(outcomes, len(batch.items))
        for job, value in zip(self._ended(batch), values, strict=False):
            if job.interruption == "lost":
                self._endings.forget(job)
            elif problem:
                self._endings.fail(job, "bad_outcomes", f"batch task {batch.definition.name!r} {problem}", "")
            elif issubclass(type(value), BaseException):
                self._endings.raised(job, value, "")
            else:
                self._endings.succeed(job, value)

    def _fail_all(self, batch: BatchJob, error: BaseException) -> None:
        text = describing.trace(error)
        for job in self._ended(batch):
            job.interruption = job.interruption or batch.interruption
            self._endings.raised(job, error, text)

    def give_up(self, batch: BatchJob) -> None:
        """Record the end of a batch whose function continues after it was stopped."""
        self._fail_all(batch, asyncio.CancelledError())

    def _ended(self, batch: BatchJob) -> list[Job]:
        """Free the slot; returns the items whose outcomes are still to be recorded."""
        slots = self._slots
        if slots.running.get(batch.id) is not batch:
            for job in batch.items:
                if slots.runs_in_batch(job):
                    del slots.items[job.id]
            return []  # given up: its items belong to another run by now
        del slots.running[batch.id]
        batch.task = None  # as for other jobs, breaks the cycle through the context of the task
        now = self._context.now()
        for position, job in enumerate(batch.items):
            # Only one slot was busy, so only one item has busy time.
            job.ready += now - batch.started if position else 0.0  # so that it has waited as long as the first
            job.started = batch.started if position == 0 else now
            job.billed_ms = batch.billed_ms if position == 0 else 0
            job.shares_run = position > 0
        # The rate of the slots decides how many tasks to claim ahead, so the batch counts as one task.
        self._tally.finished -= len(batch.items) - 1
        return batch.items


def _values_of(outcomes: Any, count: int) -> tuple[str, list[Any]]:
    """The problem with the return value of a batch function, if any, and an outcome for each item."""
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
