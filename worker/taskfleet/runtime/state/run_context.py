"""The context of a worker: its event loop, its broker on that loop, and the application's context variables."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from taskfleet import background
from taskfleet.context import CURRENT, WAITS, WORKER, WaitNotes
from taskfleet.protocol.clock import ClockUnknownError
from taskfleet.protocol.partitions import Partition

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker

R = TypeVar("R")


class RunContext:
    """All parts of a worker share one. It has no loop and no broker before the worker runs."""

    __slots__ = ("broker", "loop", "started", "variables")

    broker: Broker
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self.started = False
        # Context variables that the application has set before it starts the worker, and its middleware at startup.
        # Each run gets a copy.
        self.variables = contextvars.Context()

    def begin(self, broker: Broker, waits: WaitNotes | None = None, worker: str = "") -> None:
        """The worker starts on the running loop."""
        self.loop = asyncio.get_running_loop()
        self.broker = broker
        CURRENT.set(None)  # a task may have started the worker, which must not appear as a part of the task
        WAITS.set(waits)
        WORKER.set(worker)
        self.started = True
        self.take_variables()

    def take_variables(self) -> None:
        """Give the present context variables of the caller to the runs of tasks."""
        self.variables = contextvars.copy_context()

    def copy(self) -> contextvars.Context:
        """A copy of the application's variables."""
        return self.variables.copy()

    def now(self) -> float:
        """Loop time in seconds; safe from other threads."""
        return self.loop.time() if self.started else 0.0

    def redis_seconds(self, partition: Partition) -> float:
        """Seconds since 1970 by the clock of a partition's Redis, by which the age of tasks is measured."""
        try:
            return self.broker.clock.now_ms(partition) / 1000
        except ClockUnknownError:
            return time.time()

    def spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run work of the worker beside its loop, outside the context of any task, so that no task can cancel it."""
        return background.start(work, context=self.variables.copy())
