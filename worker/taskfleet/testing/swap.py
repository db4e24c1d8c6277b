"""Keep the queues of an application in memory for the time of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from taskfleet.results import Announcements
from taskfleet.sending import Sending
from taskfleet.testing.broker import InMemoryBroker
from taskfleet.testing.inline import InlineWorker

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_SWAPPED = ("url", "_broker", "_announcements", "_sending", "_loop", "_scheduler", "_workers")


@contextlib.contextmanager
def in_memory(queue: TaskQueue, *, clock: Callable[[], float] | None = None) -> Generator[InlineWorker]:
    """Have `queue` keep its tasks in memory inside the `with` block; its Redis is neither asked nor told.

        with in_memory(app.queue) as worker:
            await app.sign_up("a@b.c")
            await worker.run_until_idle()

    Everything else of the queue stays: its tasks, options and middleware. Afterwards it is as it was, and what was
    enqueued in the block is gone. Workers that the block starts with `start_workers` must be stopped inside it.
    """
    broker = InMemoryBroker(clock=clock)
    broker.seal = queue.seal
    before = {name: getattr(queue, name) for name in _SWAPPED}
    queue.url = broker.url
    queue._broker = broker
    queue._announcements = announcements = Announcements(broker)
    queue._sending = Sending(queue)
    queue._loop = None
    queue._scheduler = None
    queue._workers = None
    try:
        yield InlineWorker(queue)
    finally:
        for name, value in before.items():
            setattr(queue, name, value)
        _stop(announcements)


def _stop(announcements: Announcements) -> None:
    with contextlib.suppress(RuntimeError):  # outside of a loop: it has ended, and its tasks with it
        asyncio.get_running_loop()
        for listener in announcements._listeners.values():
            listener.cancel()
