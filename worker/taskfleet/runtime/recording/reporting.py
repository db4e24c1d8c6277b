"""The log lines of tasks that fail, die, retry or are taken over, limited to a readable rate.

A line for each of a thousand failures a second would fill a disk and cost more than the runs. So each task name has a
token bucket for failures and one for retries. Lines without a token are counted, and the count is logged with the next
line or a little later.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskfleet import showing, task_fields, tracing
from taskfleet.context import WORKER

if TYPE_CHECKING:
    from taskfleet.runtime.state.job import Job

logger = showing.logger("taskfleet.worker")

BURST = 10  # lines of one kind and task name in a burst
FINAL_FAILURE = "task %s (%s) of queue %s failed at attempt %d and is a dead letter (%s): %s%s"
SECONDS_EACH = 5.0  # then one line in so many seconds
_MOST_BUCKETS = 10_000


# Task id, name, queue, attempt and the span of the run, for the fields of a line.
_About = tuple[str, str, str, int, "tracing.TraceSpan | None"]


class _Bucket:
    __slots__ = ("at", "level", "lines", "missed")

    def __init__(self, level: int, now: float) -> None:
        self.level = level
        self.lines = float(BURST)
        self.at = now
        self.missed = 0

    def take(self, now: float) -> bool:
        """Take a token; returns whether there was one."""
        lines = self.lines + (now - self.at) / SECONDS_EACH
        self.at = now
        if lines >= 1.0:
            self.lines = min(float(BURST), lines) - 1.0
            return True
        self.lines = lines
        return False


class Reports:
    """The log lines of one worker's tasks. No property of a task can make it raise."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        context: Callable[[], contextvars.Context] = contextvars.copy_context,
    ) -> None:
        self._clock = clock
        self._context = context  # log records have the worker's context variables, not those of a task
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def failed(self, job: Job, reason: str, message: str, text: str, error: BaseException | None) -> None:
        """The final failure of a task: its retries are used up, or it has none. `text` is the traceback."""
        if (missed := self._take_line("failed", job.definition.name, logging.ERROR)) >= 0:
            self._say(
                logging.ERROR, FINAL_FAILURE,
                (_short(job.definition.name), _short(job.id), job.partition, job.attempt, reason, _said(message),
                 _and(missed)),
                text, error, _of_job(job),
            )  # fmt: skip

    def retried(self, job: Job, message: str, delay: float) -> None:
        """A run has failed, and the task runs again in `delay` seconds."""
        if (missed := self._take_line("retried", job.definition.name, logging.INFO)) >= 0:
            self._say(
                logging.INFO, "task %s (%s) of queue %s failed at attempt %d and runs again in %.3g s: %s%s",
                (_short(job.definition.name), _short(job.id), job.partition, job.attempt, delay, _said(message),
                 _and(missed)), about=_of_job(job),
            )  # fmt: skip

    def buried(self, queue: str, task_id: str, name: str, attempt: int, reason: str, message: str) -> None:
        """A task that could not be run."""
        # Counted by queue, since the name in an unreadable or unknown payload can be anything.
        if (missed := self._take_line("buried", f"{queue}: {reason}", logging.ERROR)) >= 0:
            self._say(
                logging.ERROR, "task %s (%s) of queue %s cannot be run at attempt %d and is a dead letter (%s): %s%s",
                (_short(name), _short(task_id), queue, attempt, reason, _said(message), _and(missed)),
                about=(task_id, name, queue, attempt, None),
            )  # fmt: skip

    def died(self, queue: str, task_id: str, name: str, attempt: int, crashes: int) -> None:
        """A task whose workers have died too often; Redis has made it a dead letter."""
        if (missed := self._take_line("died", name, logging.ERROR)) >= 0:
            self._say(
                logging.ERROR, "task %s (%s) of queue %s is a dead letter (max_deliveries): at attempt %d its worker "
                "died %d times%s", (_short(name), _short(task_id), queue, attempt, crashes, _and(missed)),
                about=(task_id, name, queue, attempt, None),
            )  # fmt: skip

    def taken_over(self, queue: str, task_id: str, name: str, attempt: int, crashes: int) -> None:
        """A task whose worker is gone: its lease has expired, and it waits for another worker."""
        if (missed := self._take_line("taken over", name, logging.WARNING)) >= 0:
            self._say(
                logging.WARNING, "task %s (%s) of queue %s is taken over at attempt %d: its worker is gone "
                "(%d so far)%s",
                (_short(name), _short(task_id), queue, attempt, crashes, _and(missed)),
                about=(task_id, name, queue, attempt, None),
            )  # fmt: skip

    def lost(self, job: Job) -> None:
        """A task that is still running here, but that was taken from this worker."""
        if (missed := self._take_line("lost", job.definition.name, logging.WARNING)) >= 0:
            self._say(
                logging.WARNING, "task %s (%s) of queue %s was taken from this worker at attempt %d, as its lease had "
                "expired; its handler is cancelled%s",
                (_short(job.definition.name), _short(job.id), job.partition, job.attempt, _and(missed)),
                about=_of_job(job),
            )  # fmt: skip

    def unknown(self, job: Job) -> None:
        """A task that is still running here, and of which Redis knows nothing."""
        if (missed := self._take_line("unknown", job.definition.name, logging.WARNING)) >= 0:
            self._say(
                logging.WARNING, "Redis knows nothing of task %s (%s) of queue %s any more: it has lost its data, or "
                "the task has ended elsewhere. No other worker has it, so attempt %d goes on%s",
                (_short(job.definition.name), _short(job.id), job.partition, job.attempt, _and(missed)),
                about=_of_job(job),
            )  # fmt: skip

    def flush(self, *, all_of_them: bool = False) -> None:
        """Log the number of omitted lines, for buckets that have a token again."""
        now = self._clock()
        for (kind, name), bucket in list(self._buckets.items()):
            if bucket.missed and (all_of_them or bucket.take(now)):
                self._say(bucket.level, "%s %s: %d more that are not listed", (_short(name), kind, bucket.missed))
                bucket.missed = 0

    def _take_line(self, kind: str, name: str, level: int) -> int:
        """The number of lines that were omitted before this one; -1 when this one is omitted, too."""
        bucket = self._buckets.get((kind, name))
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self.flush(all_of_them=True)
                self._buckets.clear()
            bucket = self._buckets[kind, name] = _Bucket(level, self._clock())
        if not bucket.take(self._clock()):
            bucket.missed += 1
            return -1
        missed, bucket.missed = bucket.missed, 0
        return missed

    def _say(
        self,
        level: int,
        line: str,
        arguments: tuple[Any, ...],
        text: str = "",
        error: BaseException | None = None,
        about: _About | None = None,
    ) -> None:
        # BaseException: a log handler of the application may raise anything, which must not affect a task.
        with contextlib.suppress(BaseException):
            if logger.isEnabledFor(level):
                self._context().run(_log, level, line, arguments, text, error, about)


def _log(
    level: int,
    line: str,
    arguments: tuple[Any, ...],
    text: str,
    error: BaseException | None,
    about: _About | None,
) -> None:
    raised: Any = (type(error), error, error.__traceback__) if error is not None and text else None
    record = logger.makeRecord(logger.name, level, __file__, 0, line, arguments, raised, "report")
    if about is not None:
        task_id, name, queue, attempt, span = about
        fields = task_fields.of_task(task_id, name, queue, attempt, WORKER.get(), span)
        setattr(record, task_fields.ATTRIBUTE, fields)
    # Formatted safely here, so that no formatter does it again
    record.exc_text = showing.lines(text.rstrip("\n")) or None
    logger.handle(record)


def _of_job(job: Job) -> _About:
    return job.id, job.definition.name, job.partition, job.attempt, tracing.current()


def _short(text: str) -> str:
    return showing.shown(text, 100)


def _and(missed: int) -> str:
    return f" (and {missed} more before it that are not listed)" if missed else ""


def _said(message: str) -> str:
    return showing.shown(message, 500)
