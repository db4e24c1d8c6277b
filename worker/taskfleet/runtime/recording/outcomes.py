"""Outcomes: the ends of tasks as records that Redis stores."""

from __future__ import annotations

from typing import Any, cast

from taskfleet import tracing
from taskfleet.application import Application
from taskfleet.protocol import call_settings, dead_record, outcome, result_record
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.retry import MAX_SECONDS
from taskfleet.runtime.executors.process_answers import Returned
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally
from taskfleet.runtime.state.upcalls import Upcalls
from taskfleet.tasks.signature import pack_result

_LEAST_CANCELLED_TTL_MS = 60_000


class Outcomes:
    """Makes outcomes, seals their records and passes them to the outbox."""

    def __init__(
        self,
        application: Application,
        identity: Identity,
        outbox: Outbox,
        tally: Tally,
        slots: Slots,
        prefetch: Prefetch,
        upcalls: Upcalls,
    ) -> None:
        self._application = application
        self._seal = application.seal
        self._usual_ttl_ms = _ttl_ms(application.result_ttl)
        self._worker_id = identity.worker_id
        self._outbox = outbox
        self._tally = tally
        self._slots = slots
        self._prefetch = prefetch
        self._upcalls = upcalls

    def post(self, partition: Partition, ended: Outcome) -> None:
        """Record the outcome with the next call. Its slot, if any, is free, so another task may start."""
        box = self._outbox.get(partition)
        if box is None:
            self._outbox.post(partition, ended)
        else:
            box.append(ended)  # the common case, without a call
        if self._prefetch.claims or self._slots.waiting:
            self._upcalls.slot_free()

    # Of runs.

    def result_record(self, job: Job, value: Any) -> bytes:
        """The sealed record of a result. Errors: `SerializationError`, and all exceptions of the application's code."""
        passed_on = bool(job.setting(call_settings.RESULT_IS_TAKEN, False))
        if type(value) is Returned:
            record = value.record()
        else:
            record = pack_result(job.definition.signature.result, value, passed_on=passed_on)
        if passed_on and (trace := _trace_of_run()):
            traced = result_record.with_trace(record, trace)
            # A task does not fail for the sake of its trace.
            record = traced if len(traced) <= self._application.max_result_bytes else record
        return self._seal.close("result", queue_of(job.partition), job.id, record) if self._seal.writes else record

    def ttl_ms(self, job: Job) -> int:
        """How long the result of this job is kept."""
        ttl = job.setting(call_settings.RESULT_TTL, job.definition.options.result_ttl)
        if ttl is None:
            return self._usual_ttl_ms
        return _ttl_ms(ttl)

    def keeps_result(self, job: Job) -> bool:
        """Whether the result is needed: for its time to live, or as an argument of another task."""
        return self.ttl_ms(job) > 0 or bool(job.setting(call_settings.RESULT_IS_TAKEN, False))

    def if_cancelled(self) -> tuple[bytes, int]:
        """The record of a cancellation, and its time to live in ms.

        Redis may know of a cancellation before the worker does.
        """
        return result_record.pack_cancelled("cancelled while it ran"), self._cancelled_ttl_ms()

    def failure(self, reason: str, message: str, text: str) -> bytes:
        """The error record of a dead letter; `text` is the traceback."""
        return dead_record.pack_failure(reason, message, text, self._worker_id, _trace_of_run())

    def attempt(self, reason: str, message: str, text: str) -> bytes:
        """The error record of an attempt that is tried again."""
        return dead_record.pack_attempt(reason, message, text, self._worker_id, _trace_of_run())

    # Of tasks that have not run.

    def handed_back(self, partition: Partition, task_id: str, delivery: int, delay_ms: int = 0) -> Outcome:
        """A task is returned unstarted. If it was cancelled in the meantime, it ends as cancelled."""
        cancelled, ttl_ms = self.if_cancelled()
        cancelled, _ = self.sealed(partition, task_id, cancelled, 0)
        return (task_id, delivery, outcome.RETURNED, 0, cancelled, ttl_ms, delay_ms)

    def hand_back(self, partition: Partition, task_id: str, delivery: int, delay_ms: int = 0) -> None:
        """Return a task to its queue with the next call."""
        self._outbox.add(partition, self.handed_back(partition, task_id, delivery, delay_ms))

    def failed(self, partition: Partition, task_id: str, delivery: int, reason: str, message: str) -> Outcome:
        """A failure in its simplest form."""
        _, record = self.sealed(partition, task_id, b"", self.failure(reason, message, ""))
        return (task_id, delivery, outcome.FAILED, 0, b"", 0, record)

    def bury(self, partition: Partition, task_id: str, delivery: int, reason: str, message: str) -> None:
        """Make a task that could not be run a dead letter."""
        self._tally.unrun[partition, outcome.DEAD] += 1
        cancelled, ttl_ms = self.if_cancelled()
        record = self.failure(reason, message, "")
        cancelled, record = self.sealed(partition, task_id, cancelled, record)
        self.post(partition, (task_id, delivery, outcome.DEAD, 0, cancelled, ttl_ms, record))

    def return_later(self, partition: Partition, task_id: str, delivery: int, delay_ms: int) -> None:
        """Return a task that this worker cannot run; it becomes ready after the delay."""
        self._tally.unrun[partition, outcome.RETURNED] += 1
        self.post(partition, self.handed_back(partition, task_id, delivery, delay_ms))

    def cancel(self, job: Job) -> None:
        """End a task that was cancelled between its claim and its run."""
        self._tally.unrun[job.partition, outcome.CANCELLED] += 1
        record, _ = self.sealed(job.partition, job.id, result_record.pack_cancelled("cancelled before it ran"), 0)
        self.post(job.partition, (job.id, job.delivery, outcome.CANCELLED, 0, record, self._cancelled_ttl_ms(), 0))

    def expire(self, partition: Partition, task_id: str, delivery: int) -> None:
        """End a task that expired between its claim and its run."""
        self._tally.unrun[partition, outcome.EXPIRED] += 1
        record, _ = self.sealed(partition, task_id, result_record.pack_expired("it expired before it ran"), 0)
        cancelled, ttl_ms = self.if_cancelled()
        cancelled, _ = self.sealed(partition, task_id, cancelled, 0)
        self.post(partition, (task_id, delivery, outcome.EXPIRED, 0, record, ttl_ms, cancelled))

    def sealed(self, partition: Partition, task_id: str, result: bytes, extra: Any) -> tuple[bytes, Any]:
        """The sealed result record of an outcome, and its extra, which is sealed if it is an error record."""
        if result:
            result = self._seal.close("result", queue_of(partition), task_id, result)
        if isinstance(extra, bytes):
            extra = self._seal.close("error", queue_of(partition), task_id, extra)
        elif isinstance(extra, tuple):
            delay_ms, record = cast("tuple[int, bytes]", extra)
            extra = delay_ms, self._seal.close("error", queue_of(partition), task_id, record)
        return result, extra

    def _cancelled_ttl_ms(self) -> int:
        # Even if results are off, a caller that asks soon learns the reason.
        return max(_LEAST_CANCELLED_TTL_MS, self._usual_ttl_ms)


def _trace_of_run() -> str:
    """The `traceparent` of the run that has just ended here, if its trace is kept; else ''."""
    span = tracing.RUN.get()
    return span.traceparent if span is not None and span.sampled else ""


def _ttl_ms(ttl: float) -> int:
    """A time to live in ms: 0 means that the record is not kept, and the longest is a bound.

    If Redis refused a value that is out of range, the call and all its other outcomes would fail.
    """
    return int(min(ttl, MAX_SECONDS) * 1000) if ttl > 0 else 0
