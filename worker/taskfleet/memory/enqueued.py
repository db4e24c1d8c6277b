"""The tasks that a broker in memory has accepted, for use in tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from taskfleet.memory.store import Accepted
from taskfleet.protocol.envelope import STAMP_BYTES
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Seal
from taskfleet.travel.value import plain


@dataclass(frozen=True, slots=True)
class EnqueuedTask:
    """A task that was accepted.

    Its arguments are as a worker gets them: pydantic models are the values of their JSON. `due_at` is when it was to
    start, `None` when at once, and `delay` the seconds until then.
    """

    id: str
    name: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    delay: float = field(default=0.0, compare=False)
    due_at: dt.datetime | None = field(default=None, compare=False)
    encoded: tuple[list[Any], dict[str, Any]] = field(default=([], {}), compare=False, repr=False)

    def __str__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        due = f", due {self.delay:g} s later" if self.delay else ""
        return f"{self.name}({', '.join(given)}) in {self.queue}{due}"


def enqueued_tasks(accepted: Iterable[Accepted], seal: Seal, name: str | None) -> list[EnqueuedTask]:
    """The accepted tasks of that name, or all of them, in order."""
    found: list[EnqueuedTask] = []
    for partition, task_id, blob, due_ms, at_ms in list(accepted):
        queue = queue_of(partition)
        task = seal.open_task(queue, task_id, bytes(STAMP_BYTES) + blob)
        if name is None or task.name == name:
            delay = max(0.0, (due_ms - at_ms) / 1000) if due_ms else 0.0
            due = dt.datetime.fromtimestamp(due_ms / 1000, dt.UTC) if due_ms else None
            args, kwargs = plain(task.args), plain(task.kwargs)
            encoded = (task.args, task.kwargs)
            found.append(EnqueuedTask(task_id, task.name, queue, args, kwargs, delay, due, encoded))
    return found
