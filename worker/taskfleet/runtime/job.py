"""One claimed task on its way through a worker."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

from taskfleet.context import TaskContext
from taskfleet.engine.envelope import Envelope
from taskfleet.tasks import Definition

if TYPE_CHECKING:
    from taskfleet.runtime.progress import ProgressReporter

Interruption = Literal["timeout", "lost", "cancel", "shutdown"]


class Job:
    """What the worker knows of a task that it runs."""

    __slots__ = (
        "attempt",
        "billed_ms",
        "definition",
        "delivery",
        "envelope",
        "id",
        "interrupt_thread",
        "interruption",
        "queue",
        "reporter",
        "started",
        "task",
        "timeout",
    )

    def __init__(
        self,
        task_id: str,
        queue: str,
        attempt: int,
        delivery: int,
        envelope: Envelope,
        definition: Definition,
        started: float,
        reporter: ProgressReporter | None = None,
    ) -> None:
        self.id = task_id
        self.queue = queue
        self.attempt = attempt
        self.delivery = delivery
        self.envelope = envelope
        self.definition = definition
        self.started = started  # loop time, s
        self.reporter = reporter
        self.billed_ms = 0  # busy time that Redis has been told of already
        self.interruption: Interruption | None = None
        self.interrupt_thread: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        timeout = definition.options.timeout
        if envelope.settings:
            timeout = envelope.settings.get("t", timeout)
        self.timeout: float | None = timeout

    def interrupt(self, why: Interruption) -> None:
        """Stop the handler; the first reason stands."""
        if self.interruption is None and self.task is not None:
            self.interruption = why
            # Cancelled before its first step a coroutine runs nothing of its own, and nobody would record its end:
            # it asks for its interruption when it begins.
            if inspect.getcoroutinestate(cast("Any", self.task.get_coro())) != inspect.CORO_CREATED:
                self.task.cancel()

    def unbilled_ms(self, now: float) -> int:
        """Busy milliseconds since the last call."""
        total = int((now - self.started) * 1000)
        billed, self.billed_ms = self.billed_ms, total
        return max(0, total - billed)

    def context(self) -> TaskContext:
        enqueued = dt.datetime.fromtimestamp(self.envelope.enqueued_ms / 1000, dt.UTC)
        deadline = None
        if self.timeout is not None:
            left = self.started + self.timeout - asyncio.get_running_loop().time() if _in_loop() else self.timeout
            deadline = dt.datetime.fromtimestamp(time.time() + left, dt.UTC)
        return TaskContext(
            self.id,
            self.definition.name,
            self.queue,
            self.attempt,
            self.delivery,
            enqueued,
            deadline,
            self.setting("h", {}),
            functools.partial(self.reporter.report, self) if self.reporter is not None else None,
        )

    def setting(self, key: str, default: Any) -> Any:
        """What the call set for itself, or the task's own option."""
        return self.envelope.settings.get(key, default) if self.envelope.settings else default


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
