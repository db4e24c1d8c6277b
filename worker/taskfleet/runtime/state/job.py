"""A job: one claimed task inside a worker, from the start of its run to its outcome."""

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
from taskfleet.runtime.state.tally import TaskFigures
from taskfleet.tasks.definition import Definition

Interruption = Literal["timeout", "lost", "cancel", "shutdown"]
ReportProgress = Callable[["Job", float, "float | None", str], None]
"""Takes a job and its done, total and note, in any thread."""


class JobTask(asyncio.Task[None]):
    """The asyncio task of a job, which tells apart who cancels it. The worker stops it by `Job.interrupt`.

    The task may be cancelled by itself, by a timer or by a child task; that is the handler's own business. A
    cancellation by the code of another task is ignored, but noted, since that code may also have cancelled an awaitable
    of this one. A cancellation from outside any task, such as the end of the loop, takes effect and is noted. A run
    that is cancelled after such a note is returned to its queue and has not failed.
    """

    __slots__ = ("job",)

    job: Job

    def cancel(self, msg: Any | None = None) -> bool:
        who = caller()
        # `None` in its first step, where only the task itself can be the caller
        job: Job | None = getattr(self, "job", None)
        if job is not None:
            if who is None:
                if job.task is not None and not job.begun:  # a job that is given up has no task any more
                    job.interruption = job.interruption or "shutdown"
                    return True
                job.cancelled_outside = True
            elif getattr(who, "__self__", None) is not job:
                job.cancelled_outside = True
                return False
        return super().cancel(msg)


class Job:
    """The state of a task that a worker runs."""

    __slots__ = (
        "attempt",
        "billed_ms",
        "cancelled_outside",
        "definition",
        "delivery",
        "envelope",
        "figures",
        "id",
        "interruption",
        "partition",
        "ready",
        "report",
        "shares_run",
        "started",
        "task",
        "timeout",
        "waited_for",
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
        ready: float,
        figures: TaskFigures,
        report: ReportProgress | None = None,
    ) -> None:
        self.id = task_id
        self.partition = partition
        self.attempt = attempt
        self.delivery = delivery
        self.envelope = envelope
        self.definition = definition
        self.started = started  # loop time, s
        self.figures = figures
        self.ready = ready  # loop time, s
        self.report = report
        self.waited_for: tuple[str, ...] = ()  # `traceparent` of the runs whose results it takes
        self.shares_run = False  # with an item of its batch that has the time of the run
        self.billed_ms = 0  # busy time that is already recorded in Redis
        self.interruption: Interruption | None = None
        self.cancelled_outside = False  # by neither the worker nor the handler: the end of the loop, or another task
        self.task: asyncio.Task[None] | None = None
        timeout = definition.options.timeout
        if envelope.settings:
            timeout = envelope.settings.get(call_settings.TIMEOUT, timeout)
        self.timeout: float | None = timeout

    @property
    def headers(self) -> object:
        """The headers of its message: a dict of text, unless another program has written them; None without any."""
        settings = self.envelope.settings
        return settings.get(call_settings.HEADERS) if settings else None

    def interrupt(self, why: Interruption) -> bool:
        """Cancel the handler. Only the first reason counts; returns whether this is the first. See `Stopping`."""
        if self.interruption is not None or self.task is None:
            return False
        self.interruption = why
        # A coroutine that is cancelled before its first step runs none of its code, and its end would not be recorded.
        # It checks for its interruption when it begins.
        if self.begun:
            asyncio.Task.cancel(self.task)
        return True

    @property
    def begun(self) -> bool:
        """Whether its coroutine has reached its first step."""
        assert self.task is not None
        return inspect.getcoroutinestate(cast("Any", self.task.get_coro())) != inspect.CORO_CREATED

    def unbilled_ms(self, now: float) -> int:
        """Busy milliseconds since the last call of this method."""
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
            self.waited_for,
        )

    def setting(self, key: str, default: Any) -> Any:
        """The setting of the call, or the option of the task."""
        return self.envelope.settings.get(key, default) if self.envelope.settings else default


def _time_of(seconds: float) -> dt.datetime:
    """A Unix time as a datetime; a time beyond the calendar is its last moment."""
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
