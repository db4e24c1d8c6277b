"""The end of a run and its outcome: a result, a retry, a failure or a cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from taskfleet import describing, showing
from taskfleet.application import Application
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.protocol import call_settings, dead_record, outcome
from taskfleet.retry import RetryLater, delay_ms
from taskfleet.runtime.executors import returned
from taskfleet.runtime.executors.process_answers import ChildError, ProcessDiedError
from taskfleet.runtime.executors.returned import PLAIN_TYPES
from taskfleet.runtime.recording import retrying
from taskfleet.runtime.recording.hook_calls import HookCalls
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally

logger = showing.logger("taskfleet.worker")


class Endings:
    """Decides the outcome of a task whose run has ended, frees its slot and posts the outcome."""

    def __init__(
        self,
        application: Application,
        context: RunContext,
        slots: Slots,
        held: Held,
        outcomes: Outcomes,
        tally: Tally,
        reports: Reports,
        hook_calls: HookCalls,
        wanted: asyncio.Event,
    ) -> None:
        self._max_result_bytes = application.max_result_bytes
        self._seals = application.seal.writes
        self._context = context
        self._slots = slots
        self._running = slots.running
        self._held = held
        self._outcomes = outcomes
        self._tally = tally
        self._reports = reports
        self._hook_calls = hook_calls
        self._wanted = wanted

    def succeed(self, job: Job, value: Any) -> None:
        """Record a result, if it can be stored."""
        try:
            if value is not None and type(value) not in PLAIN_TYPES and (promise := returned.unfinished(value)):
                self.fail(job, "bad_result", f"it returned {promise}", "")
                return
            ttl_ms = self._outcomes.ttl_ms(job)
            record = b""
            if ttl_ms > 0 or job.setting(call_settings.RESULT_IS_TAKEN, False):
                try:
                    record = self._outcomes.result_record(job, value)
                except BaseException as error:
                    self._fail_without_record(job, error)
                    return
                if len(record) > self._max_result_bytes:
                    self._fail_too_large(job, len(record))
                    return
            self._end(job, outcome.SUCCEEDED, record, ttl_ms, 0)
        except BaseException as problem:
            self._unrecordable(job, problem)

    def _fail_without_record(self, job: Job, error: BaseException) -> None:
        """The result cannot be stored: packing it has raised `error`."""
        name = job.definition.name
        if issubclass(type(error), PayloadTooLargeError):
            self.fail(job, "result_too_large", f"task {name!r}: {error}", "")
        elif issubclass(type(error), SerializationError):
            self.fail(job, "bad_result", describing.text_of(error), "")
        else:
            # A validator of the application may raise anything.
            message = f"task {name!r}: its result cannot be encoded: {describing.describe(error)}"
            self.fail(job, "bad_result", message, describing.trace(error))

    def _fail_too_large(self, job: Job, size: int) -> None:
        problem = (
            f"task {job.definition.name!r}: its result has {size} bytes, more than "
            f"max_result_bytes={self._max_result_bytes}; store it elsewhere and return its address"
        )
        self.fail(job, "result_too_large", problem, "")

    def raised(self, job: Job, error: BaseException, text: str) -> None:
        """Record the outcome of a run that raised `error`; `text` is its traceback, if it is at hand.

        No property of an error can prevent the recording.
        """
        try:
            if self._slots.runs(job):
                self._end_badly(job, error, text)
        except BaseException as problem:
            self._unrecordable(job, problem)

    def _end_badly(self, job: Job, error: BaseException, text: str) -> None:
        kind = type(error)  # not isinstance: application code can define the `__class__` of an error
        if job.interruption is not None:
            self._end_interrupted(job, error)
        elif kind is ChildError:
            self._retry_or_fail(job, error, "exception", str(error), cast("ChildError", error).traceback)
        elif kind is ProcessDiedError:
            self._retry_or_fail(job, error, "crashed", str(error), "")
        else:
            self._retry_or_fail(job, error, "exception", describing.describe(error), text or describing.trace(error))

    def _end_interrupted(self, job: Job, error: BaseException) -> None:
        """Record the end of a run that the worker has stopped. The reason for the stop decides, not the exception."""
        if job.interruption == "lost":
            self.forget(job)
        elif job.interruption == "shutdown":
            self._end(job, outcome.RETURNED, *self._outcomes.if_cancelled(), 0)
        elif job.interruption == "cancel":
            self._end(job, outcome.CANCELLED, *self._outcomes.if_cancelled(), 0)
        else:
            self._retry_or_fail(job, error, "timeout", dead_record.ran_too_long(job.timeout or 0.0), "")

    def _retry_or_fail(self, job: Job, error: BaseException, reason: str, message: str, text: str) -> None:
        if not retrying.is_wanted(job, error, self._context.redis_seconds):
            self.fail(job, reason, message, text, error)
            return
        delay = retrying.delay_seconds(job, error)
        trace = "" if issubclass(type(error), RetryLater) else text  # it has asked for the retry
        extra = delay_ms(delay), self._outcomes.attempt(reason, message, trace)
        if self._end(job, outcome.RETRIED, *self._outcomes.if_cancelled(), extra):
            self._reports.retried(job, message, delay)
            self._hook_calls.retried(job, reason, message, delay)

    def fail(self, job: Job, reason: str, message: str, text: str, error: BaseException | None = None) -> None:
        """Record a final failure; `text` is its traceback."""
        record = self._outcomes.failure(reason, message, text)
        if self._end(job, outcome.FAILED, *self._outcomes.if_cancelled(), record):
            self._reports.failed(job, reason, message, text, error)
            self._hook_calls.failed(job, reason, message)

    def _unrecordable(self, job: Job, problem: BaseException) -> None:
        """The last resort: a failure with the reason why the actual end could not be recorded."""
        with contextlib.suppress(BaseException):
            logger.error("task %s: its end could not be recorded as it was:\n%s", job.id, describing.trace(problem))
        message = f"its end could not be recorded: {describing.describe(problem)}"
        record = self._outcomes.failure("internal", message, describing.trace(problem))
        self._end(job, outcome.FAILED, b"", 0, record)

    def _end(self, job: Job, code: str, result: bytes, ttl_ms: int, extra: Any) -> bool:
        """Free the slot and post the outcome, once; false when the task no longer belongs to this run."""
        slots = self._slots
        alone = self._running.get(job.id) is job
        if not alone and not slots.runs_in_batch(job):
            return False  # abandoned: the task belongs to another worker or to a newer delivery
        partition = job.partition
        if self._seals and code != outcome.SUCCEEDED:  # a success is sealed already, since its size had to be known
            result, extra = self._outcomes.sealed(partition, job.id, result, extra)
        now = self._context.loop.time()
        ended = (job.id, job.delivery, code, job.unbilled_ms(now), result, ttl_ms, extra)
        if alone:
            del self._running[job.id]
        else:
            del slots.items[job.id]
        job.task = None  # it holds the context, which holds the job: a cycle that only the garbage collector would free
        tally = self._tally
        seconds = now - job.started
        tally.finished += 1
        job.figures.ended(code, job.started - job.ready, None if job.shares_run else seconds)
        self._outcomes.post(partition, ended)
        return True

    def forget(self, job: Job) -> None:
        """Record nothing, since the task was taken from this worker."""
        job.task = None  # as in `_end`
        self._slots.release(job)
        if self._held.get(job.id) == (job.partition, job.delivery):
            del self._held[job.id]
        self._wanted.set()
