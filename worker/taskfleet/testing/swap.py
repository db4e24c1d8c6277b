"""Keep the queues of an application in memory for the time of a test."""

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
    """Have `queue` keep its tasks in memory inside the `with` block; its Redis is neither asked nor told.

        with in_memory(app.queue) as worker:
            await app.sign_up("a@b.c")
            await worker.run_until_idle()

    Everything else of the queue stays: its tasks, options and middleware. Afterwards it is as it was, and what was
    enqueued in the block is gone. Workers that the block starts with `start_workers` must be stopped inside it.
    """
    with queue.sessions.on(InMemoryBroker(clock=clock)):
        yield InlineWorker(queue)
