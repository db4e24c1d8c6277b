"""The tasks that a broker in memory has accepted, for use in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskfleet.memory.store import MemoryStore
from taskfleet.protocol.envelope import STAMP_BYTES
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Seal
from taskfleet.travel.value import plain


@dataclass(frozen=True, slots=True)
class EnqueuedTask:
    """A task that was accepted.

    Its arguments are as a worker gets them: pydantic models are the values of their JSON.
    """

    id: str
    name: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]


def enqueued_tasks(store: MemoryStore, seal: Seal, name: str | None) -> list[EnqueuedTask]:
    """The accepted tasks of that name, or all of them, in order."""
    found: list[EnqueuedTask] = []
    for partition, task_id, blob in list(store.accepted):
        queue = queue_of(partition)
        task = seal.open_task(queue, task_id, bytes(STAMP_BYTES) + blob)
        if name is None or task.name == name:
            found.append(EnqueuedTask(task_id, task.name, queue, plain(task.args), plain(task.kwargs)))
    return found
