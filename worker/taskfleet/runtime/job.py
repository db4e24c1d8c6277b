"""One claimed task on its way through a worker."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, Literal, cast

from taskfleet.context import TaskContext, caller
from taskfleet.protocol import call_settings
from taskfleet.protocol.envelope import Envelope
from taskfleet.protocol.partitions import Partition
from taskfleet.tasks.definition import Definition

Interruption = Literal["timeout", "lost", "cancel", "shutdown"]
ReportProgress = Callable[["Job", float, "float | None", str], None]
"""Takes a job's done, total and note, on any thread."""


class JobTask(asyncio.Task[None]):
    """The asyncio task of a job. The worker stops it by `Job.interrupt`; what else cancels it is told apart here.

    The task itself, or a timer or child of its own, may: that is its own affair. Another task's code may not, but it is
    noted: it may have cancelled what this one waits for as well. What is no task's, such as the end of the loop, may,
    and is noted. A run that is cancelled after that goes back and has not failed.
    """

    __slots__ = ("job",)

    job: Job

    def cancel(self, msg: Any | None = None) -> bool:
        who = caller()
        job: Job | None = getattr(self, "job", None)  # `None` in its first step, where only it can be the caller
        if job is not None:
            if who is None:
                if job.task is not None and not job.begun:  # one that is given up has no task any more
                    job.interruption = job.interruption or "shutdown"
                    return True
                job.cancelled_outside = True
            elif getattr(who, "__self__", None) is not job:
                job.cancelled_outside = True
                return False
        return super().cancel(msg)


class Job:
    """What the worker knows of a task that it runs."""

    __slots__ = (
        "attempt",
        "billed_ms",
        "cancelled_outside",
        "definition",
        "delivery",
        "envelope",
        "id",
        "interruption",
        "partition",
        "report",
        "started",
        "task",
        "timeout",
    )

    def __init__(
        self,
        task_id: str,
        partition: Partition,
        attempt: int,
        delivery: int,
        envelope: Envelope,
        definition: Definition,
        started: float,
        report: ReportProgress | None = None,
    ) -> None:
        self.id = task_id
        self.partition = partition
        self.attempt = attempt
        self.delivery = delivery
        self.envelope = envelope
        self.definition = definition
        self.started = started  # loop time, s
        self.report = report
        self.billed_ms = 0  # busy time that Redis has been told of already
        self.interruption: Interruption | None = None
        self.cancelled_outside = False  # by what is neither the worker nor its own code: the end of the loop, another
        self.task: asyncio.Task[None] | None = None
        timeout = definition.options.timeout
        if envelope.settings:
            timeout = envelope.settings.get(call_settings.TIMEOUT, timeout)
        self.timeout: float | None = timeout

    def interrupt(self, why: Interruption) -> bool:
        """Cancel the handler; the first reason stands. Returns whether this one is it: see `Stopping`."""
        if self.interruption is not None or self.task is None:
            return False
        self.interruption = why
        # Cancelled before its first step a coroutine runs nothing of its own, and nobody would record its end:
        # it asks for its interruption when it begins.
        if self.begun:
            asyncio.Task.cancel(self.task)
        return True

    @property
    def begun(self) -> bool:
        """Whether its coroutine has come to its first step."""
        assert self.task is not None
        return inspect.getcoroutinestate(cast("Any", self.task.get_coro())) != inspect.CORO_CREATED

    def unbilled_ms(self, now: float) -> int:
        """Busy milliseconds since the last call."""
        total = int((now - self.started) * 1000)
        billed, self.billed_ms = self.billed_ms, total
        return max(0, total - billed)

    def context(self) -> TaskContext:
        enqueued = _time_of(self.envelope.enqueued_ms / 1000)
        deadline = None
        if self.timeout is not None:
            left = self.started + self.timeout - asyncio.get_running_loop().time() if _in_loop() else self.timeout
            deadline = _time_of(time.time() + left)
        return TaskContext(
            self.id,
            self.definition.name,
            self.partition,
            self.attempt,
            self.delivery,
            enqueued,
            deadline,
            self.setting(call_settings.HEADERS, {}),
            functools.partial(self.report, self) if self.report is not None else None,
        )

    def setting(self, key: str, default: Any) -> Any:
        """What the call set for itself, or the task's own option."""
        return self.envelope.settings.get(key, default) if self.envelope.settings else default


def _time_of(seconds: float) -> dt.datetime:
    """A Unix time; what the calendar has no day for is its last."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return dt.datetime.max.replace(tzinfo=dt.UTC)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
