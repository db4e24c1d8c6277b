"""The context of a running task: its facts, and its reports of progress."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

Report = Callable[[float, float | None, str], None]


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The running task. `attempt` counts from 1; `deadline` is the end of its timeout, if it has one.

    `headers` are the headers that middleware set when the task was enqueued.
    """

    id: str
    name: str
    queue: str
    attempt: int
    delivery: int
    enqueued_at: datetime
    deadline: datetime | None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    _report: Report | None = field(default=None, repr=False, compare=False)
    # `traceparent` of the runs whose results this task takes, for an instrumentation of tracing.
    _waited_for: tuple[str, ...] = field(default=(), repr=False, compare=False)

    async def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the task is; `await handle.progress()` reads the report.

        It is cheap enough for a tight loop: the worker sends only the latest report of each task, at most four times a
        second. When the worker has lost the task's lease, a report has no effect and the task is cancelled. A context
        that no worker made ignores reports.
        """
        self.progress_sync(done, total, note)
        # Without this, a loop that awaits nothing else would delay the report and all other tasks.
        await asyncio.sleep(0)

    def progress_sync(self, done: float, total: float | None = None, note: str = "") -> None:
        """`progress` for a plain function in its thread."""
        if self._report is not None:
            self._report(done, total, note)


# The worker sets a function that makes the context, not the context: most tasks never ask for it.
CURRENT: contextvars.ContextVar[Callable[[], TaskContext] | None] = contextvars.ContextVar(
    "taskfleet_current_task", default=None
)


class WaitNotes(Protocol):
    """Takes note of tasks that wait for other tasks' results while they hold a slot, from any thread."""

    def check(self, waiter: object, task_id: str) -> None: ...

    def note(self, waiter: object, task_id: str, state: str) -> None: ...

    def forget(self, waiter: object, task_id: str) -> None: ...


# Set once by each worker, for all its tasks. `WORKER` is its id, or "" outside of a worker.
WORKER: contextvars.ContextVar[str] = contextvars.ContextVar("taskfleet_worker", default="")
WAITS: contextvars.ContextVar[WaitNotes | None] = contextvars.ContextVar("taskfleet_waits", default=None)


def caller() -> Callable[[], TaskContext] | None:
    """The task of a worker whose code runs on this thread's event loop now, by the function that makes its context.

    `None` outside of a loop: `asyncio.run` in a task's thread has that task's context even after its loop has ended.
    """
    return CURRENT.get() if asyncio._get_running_loop() is not None else None


def current_id() -> str | None:
    """The id of the running task; `None` outside of a task, and in a batch, which is no task of its own."""
    make = CURRENT.get()
    if make is None:
        return None
    # Not the whole context: a job knows its id.
    known = getattr(getattr(make, "__self__", None), "id", None)
    found = known if isinstance(known, str) else make().id
    return None if found.startswith("batch:") else found


def current_task() -> TaskContext:
    """The context of the running task; `RuntimeError` outside of a task."""
    make = CURRENT.get()
    if make is None:
        raise RuntimeError("current_task() is only there inside a task that a worker runs")
    return make()
