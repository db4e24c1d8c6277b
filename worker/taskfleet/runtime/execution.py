"""Running one task: decode, call, and turn what happened into an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
import traceback
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from taskfleet import context, outcome, workflows
from taskfleet.engine import envelope, keys
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.retry import Retry, RetryLater
from taskfleet.runtime.intake import Intake, Refusal
from taskfleet.runtime.job import Job
from taskfleet.signature import pack_result

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker

logger = logging.getLogger("taskfleet.worker")

_NAMES = {
    "s": "succeeded",
    "r": "retried",
    "f": "failed",
    "d": "dead",
    "c": "cancelled",
    "x": "expired",
    "n": "returned",
}
_EAGER = sys.version_info >= (3, 12)


class Execution:
    """Starts jobs and reports their outcomes to the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._queue = worker.queue
        self._seal = worker.queue.seal
        # Whether payloads come as they are: then nothing stands between them and the decoder.
        self._plain = not (self._seal.writes or self._seal.requires)
        self.intake = Intake(self._seal)
        self.finished = 0
        self.counts: Counter[tuple[str, str]] = Counter()  # (queue, outcome)
        self.busy_seconds: dict[str, float] = defaultdict(float)

    def start(
        self, queue: str, task_id: str, blob: bytes, attempt: int, delivery: int, inputs: list[bytes] | None
    ) -> None:
        """Run a claimed task, or bury it with the reason why it cannot be run."""
        worker = self._worker
        try:
            task = envelope.decode(blob) if self._plain else self._seal.open_task(keys.queue_of(queue), task_id, blob)
        except SerializationError as error:
            looked = self.intake.look_closer(queue, task_id, blob, error)
            if isinstance(looked, Refusal):
                self._refuse(queue, task_id, delivery, looked)
                return
            task = looked
        definition = self._queue.find_task(task.name)
        if definition is None:
            self._bury(
                queue, task_id, delivery, "unknown_task", f"no task is named {task.name[:200]!r} in this application"
            )
            return
        settings = task.settings
        if settings and "x" in settings and settings["x"] <= time.time():
            self._end(queue, task_id, delivery, "x", outcome.pack_end(outcome.EXPIRED, "it expired before it ran"))
            return
        try:
            if inputs is not None:
                task.args.insert(0, self._input(settings, inputs))
            elif settings and "i" in settings:
                # Its first parameter may have a default, which is not what was meant.
                raise SerializationError("the results that it waits for are not there")
            args, kwargs = definition.signature.load(task.args, task.kwargs)
        except Exception as error:
            # Also what a validator of the application's own raises: the worker has other tasks.
            refusal = self.intake.refuse(queue, blob, error, "bad_arguments")
            self._refuse(queue, task_id, delivery, refusal)
            return
        loop = worker._loop
        assert loop is not None
        job = Job(task_id, queue, attempt, delivery, task, definition, loop.time())
        worker.running[task_id] = job
        if job.timeout is not None:
            worker.deadlines.watch(job)
        run = self._run(job, args, kwargs)
        if _EAGER:
            # On the spot as far as it comes; a task that awaits nothing costs no trip through the loop.
            job.task = asyncio.Task(run, loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
        else:
            job.task = loop.create_task(run)

    def _input(self, settings: dict[str, Any], records: list[bytes]) -> Any:
        return workflows.first_argument(settings.get("i", 1), records, settings.get("s"), self._seal)

    async def _run(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        definition = job.definition
        context.CURRENT.set(job.context)
        try:
            if definition.options.executor == "async":
                value = await definition.function(*args, **kwargs)
            else:
                value = await self._worker.threads.call(definition.function, args, kwargs)
            if job.interruption is not None:
                # The handler swallowed its cancellation; what it returned came too late to count.
                raise asyncio.CancelledError
        except BaseException as error:
            # BaseException: a task that calls sys.exit() must not take the worker with it.
            self._ended_badly(job, error)
            return
        ttl = job.setting("k", definition.options.result_ttl)
        ttl_ms = int((self._queue.result_ttl if ttl is None else ttl) * 1000)
        record = b""
        if ttl_ms > 0 or job.setting("n", False):
            try:
                packed = pack_result(definition.signature.result, value)
            except SerializationError as error:
                self._fail(job, "bad_result", str(error), "")
                return
            record = outcome.pack_success(packed)
            if self._seal.writes:
                record = self._seal.close("result", keys.queue_of(job.queue), job.id, record)
            if len(record) > self._queue.max_result_bytes:
                self._fail(job, "result_too_large", str(self._too_large(job, len(record))), "")
                return
        self._report(job, "s", record, ttl_ms, 0)

    def _ended_badly(self, job: Job, error: BaseException) -> None:
        if job.interruption is not None:
            # Whatever it raised on its way out, it was stopped, and why decides.
            if job.interruption == "lost":
                self._forget(job)
            elif job.interruption == "shutdown":
                self._report(job, "n", *self._if_cancelled(), 0)
            elif job.interruption == "cancel":
                self._report(job, "c", *self._if_cancelled(), 0)
            else:
                self._retry_or_fail(job, error, "timeout", f"it ran longer than its timeout of {job.timeout:g} s", "")
            return
        text = traceback.format_exc()
        self._retry_or_fail(job, error, "exception", f"{type(error).__name__}: {error}", text)

    def _retry_or_fail(self, job: Job, error: BaseException, reason: str, message: str, text: str) -> None:
        options = job.definition.options
        max_retries = job.setting("r", options.max_retries)
        max_age = job.setting("a", options.max_age)
        too_old = max_age is not None and time.time() - job.envelope.enqueued_ms / 1000 > max_age
        always = isinstance(error, options.always_retry) if options.always_retry else False
        never = isinstance(error, options.never_retry) if options.never_retry else False
        if too_old or never or (job.attempt > max_retries and not always):
            self._fail(job, reason, message, text)
            return
        delay = error.delay if isinstance(error, RetryLater) else _retry_of(job).seconds(job.attempt)
        logger.debug(
            "task %s (%s) attempt %d: %s; again in %.3g s", job.id, job.definition.name, job.attempt, message, delay
        )
        self._report(job, "r", *self._if_cancelled(), int(delay * 1000))

    def _too_large(self, job: Job, size: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"task {job.definition.name!r}: its result has {size} bytes, more than "
            f"max_result_bytes={self._queue.max_result_bytes}; store it elsewhere and return its address"
        )

    def _fail(self, job: Job, reason: str, message: str, text: str) -> None:
        logger.debug("task %s (%s) failed: %s", job.id, job.definition.name, message)
        self._report(job, "f", *self._if_cancelled(), outcome.pack_failure(reason, message, text))

    def _report(self, job: Job, code: str, result: bytes, ttl_ms: int, extra: Any) -> None:
        worker = self._worker
        now = worker.now()
        if worker.running.pop(job.id, None) is not job:
            return  # abandoned: it is another worker's by now
        job.task = None  # it holds the context, which holds the job: nobody but the collector would undo that
        if self._seal.writes and code != "s":  # a success is sealed already: its size had to be known
            result, extra = self._sealed(job.queue, job.id, result, extra)
        self.finished += 1
        self.counts[job.queue, code] += 1
        self.busy_seconds[job.queue] += now - job.started
        worker.finished((job.id, job.delivery, code, job.unbilled_ms(now), result, ttl_ms, extra), job.queue)

    def _forget(self, job: Job) -> None:
        """Another worker has the task: nothing is recorded by us."""
        worker = self._worker
        worker.running.pop(job.id, None)
        worker.held.pop(job.id, None)
        worker._wanted.set()

    def _bury(self, queue: str, task_id: str, delivery: int, reason: str, message: str) -> None:
        logger.warning("task %s of queue %s goes to the dead letters: %.500s", task_id, queue, message)
        self.counts[queue, "d"] += 1
        _, record = self._sealed(queue, task_id, b"", outcome.pack_failure(reason, message, ""))
        self._worker.finished((task_id, delivery, "d", 0, b"", 0, record), queue)

    def _refuse(self, queue: str, task_id: str, delivery: int, refusal: Refusal) -> None:
        if refusal.delay_ms:
            self.counts[queue, "n"] += 1
            cancelled, ttl_ms = self._if_cancelled()
            cancelled, _ = self._sealed(queue, task_id, cancelled, 0)
            self._worker.finished((task_id, delivery, "n", 0, cancelled, ttl_ms, refusal.delay_ms), queue)
        else:
            self._bury(queue, task_id, delivery, refusal.reason, refusal.message)

    def _sealed(self, queue: str, task_id: str, result: bytes, extra: Any) -> tuple[bytes, Any]:
        """What an outcome stores, sealed: its result record and, when it is one, its error record."""
        if result:
            result = self._seal.close("result", keys.queue_of(queue), task_id, result)
        if isinstance(extra, bytes):
            extra = self._seal.close("error", keys.queue_of(queue), task_id, extra)
        return result, extra

    def _end(self, queue: str, task_id: str, delivery: int, code: str, record: bytes) -> None:
        self.counts[queue, code] += 1
        record, _ = self._sealed(queue, task_id, record, 0)
        self._worker.finished((task_id, delivery, code, 0, record, self._cancelled_ttl_ms(), 0), queue)

    def _if_cancelled(self) -> tuple[bytes, int]:
        """The record of a cancellation: Redis may know of one that has not reached us."""
        return outcome.pack_end(outcome.CANCELLED, "cancelled while it ran"), self._cancelled_ttl_ms()

    def _cancelled_ttl_ms(self) -> int:
        # Even with results off, somebody who asks soon learns why there is none.
        return max(60_000, int(self._queue.result_ttl * 1000))

    def outcomes(self) -> dict[tuple[str, str], int]:
        """(queue, outcome name) → how many; safe to call on another thread."""
        return {(queue, _NAMES[code]): n for (queue, code), n in self.counts.copy().items()}


def _retry_of(job: Job) -> Retry:
    """The policy of the call, or the task's own."""
    own = job.setting("b", None)
    with contextlib.suppress(TypeError, ValueError):
        if own is not None:
            return Retry(*own)
    return job.definition.options.retry
