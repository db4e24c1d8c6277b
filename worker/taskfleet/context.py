"""What a running task can know of itself."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
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


# The worker sets what makes the context, not the context: most tasks never ask.
CURRENT: contextvars.ContextVar[Callable[[], TaskContext]] = contextvars.ContextVar("taskfleet_current_task")


def current_task() -> TaskContext:
    """The context of the task that runs; `RuntimeError` outside of one."""
    try:
        return CURRENT.get()()
    except LookupError:
        raise RuntimeError("current_task() is only there inside a task that a worker runs") from None
