"""Keeps the queues of an application in memory for the time of a test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from taskfleet.memory.broker import InMemoryBroker
from taskfleet.testing.inline import InlineWorker

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue


@contextlib.contextmanager
def in_memory(queue: TaskQueue, *, clock: Callable[[], float] | None = None) -> Generator[InlineWorker]:
    """Keep the tasks of `queue` in memory inside the `with` block; its Redis is not called.

        with in_memory(app.queue) as worker:
            await app.sign_up("a@b.c")
            await worker.run_until_idle()

    The queue keeps its tasks, options and middleware. After the block it uses its Redis again, and the tasks that were
    enqueued in the block are gone. Workers that the block starts with `start_workers` must be stopped inside it.
    """
    with queue.sessions.on(InMemoryBroker(clock=clock)):
        yield InlineWorker(queue)
