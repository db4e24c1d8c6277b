"""What a running task can know of itself, and say of itself."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

Report = Callable[[float, float | None, str], None]


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The task that runs. `attempt` counts from 1; `deadline` is when its timeout strikes, if it has one.

    `headers` are what middleware gave it along where it was enqueued.
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

    async def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far the task is; `await handle.progress()` reads it.

        Cheap enough for a tight loop: the worker sends the latest report of each task, at most four times a second.
        Reports of a task that is no longer this worker's change nothing, and the task is cancelled.
        A context that no worker made takes reports and forgets them.
        """
        self.progress_sync(done, total, note)
        # A loop that awaits nothing else would keep the report, and everybody else, waiting.
        await asyncio.sleep(0)

    def progress_sync(self, done: float, total: float | None = None, note: str = "") -> None:
        """The same from a plain function in its thread."""
        if self._report is not None:
            self._report(done, total, note)


# The worker sets what makes the context, not the context: most tasks never ask.
CURRENT: contextvars.ContextVar[Callable[[], TaskContext] | None] = contextvars.ContextVar(
    "taskfleet_current_task", default=None
)


def caller() -> Callable[[], TaskContext] | None:
    """Whose code of a worker's tasks runs on this thread's event loop now, if any's.

    Not what `asyncio.run` does after the end in a thread of a task, which has that task's context too.
    """
    return CURRENT.get() if asyncio._get_running_loop() is not None else None


def current_task() -> TaskContext:
    """The context of the task that runs; `RuntimeError` outside of one."""
    make = CURRENT.get()
    if make is None:
        raise RuntimeError("current_task() is only there inside a task that a worker runs")
    return make()
