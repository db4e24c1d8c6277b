"""What a running task can know of itself."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The task that runs. `attempt` counts from 1; `deadline` is when its timeout strikes, if it has one."""

    id: str
    name: str
    queue: str
    attempt: int
    delivery: int
    enqueued_at: datetime
    deadline: datetime | None


CURRENT: contextvars.ContextVar[TaskContext] = contextvars.ContextVar("taskfleet_current_task")


def current_task() -> TaskContext:
    """The context of the task that runs; `RuntimeError` outside of one."""
    try:
        return CURRENT.get()
    except LookupError:
        raise RuntimeError("current_task() is only there inside a task that a worker runs") from None
