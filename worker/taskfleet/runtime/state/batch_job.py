"""A batch before it has a slot, and while it runs."""

from __future__ import annotations

import asyncio
from typing import Any

from taskfleet.context import TaskContext
from taskfleet.runtime.state.job import Job
from taskfleet.tasks.definition import Definition


class PendingBatch:
    """The items of a batch that has no slot yet, by id, in the order of their claims."""

    __slots__ = ("definition", "items", "queue", "timer")

    def __init__(self, queue: str, definition: Definition) -> None:
        self.queue = queue
        self.definition = definition
        self.items: dict[str, tuple[Job, list[Any], dict[str, Any]]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class BatchJob(Job):
    """One run of a batch function: it holds the slot, and its items hold the leases."""

    __slots__ = ("items",)

    def __init__(self, items: list[Job], started: float) -> None:
        first = items[0]
        super().__init__(
            f"batch:{first.id}", first.partition, 1, 1, first.envelope, first.definition, started, first.ready,
            first.figures,
        )  # fmt: skip
        self.items = items
        self.timeout = min((job.timeout for job in items if job.timeout is not None), default=None)
        for job in items:
            job.started, job.timeout = started, self.timeout

    def context(self) -> TaskContext:
        raise RuntimeError("a batch has no task of its own: use item.context in place of current_task()")
