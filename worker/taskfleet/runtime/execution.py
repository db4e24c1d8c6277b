"""Running one task: decode, call, and turn what happened into an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import logging
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from taskfleet import background, context, outcome, workflows
from taskfleet.batches import BatchItem
from taskfleet.context import TaskContext
from taskfleet.engine import envelope, keys
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.middleware import Middleware, WorkerContext
from taskfleet.retry import Retry, RetryLater, delay_ms
from taskfleet.runtime import injection
from taskfleet.runtime.batches import Batches, BatchJob
from taskfleet.runtime.intake import Intake, Refusal
from taskfleet.runtime.job import Job, JobTask
from taskfleet.runtime.processes import ChildError, ProcessDiedError, Returned, is_any
from taskfleet.runtime.progress import ProgressReporter
from taskfleet.signature import pack_result
from taskfleet.tasks import Definition

if TYPE_CHECKING:
    from taskfleet.engine.interface import Outcome
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
_CANCELLED_OUTSIDE = 3  # runs of one task that something unknown may cancel before that counts as its failure
_TELL_SECONDS = 5.0  # how long hooks that were told of a retry or a death may take when the worker ends


class Execution:
    """Starts jobs and reports their outcomes to the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._queue = worker.queue
        self._hooks = worker.queue.middleware
        self._started: list[Middleware] = []
        self._cancelled_outside: Counter[str] = Counter()  # id → how often
        self._telling: set[asyncio.Task[None]] = set()
        self._progress = ProgressReporter(worker)
        self.batches = Batches(worker, self)
        self._seal = worker.queue.seal
        # Whether payloads come as they are: then nothing stands between them and the decoder.
        self._plain = not (self._seal.writes or self._seal.requires)
        self.intake = Intake(self._seal)
        # What is longer is not even looked at: it would be the memory of several tasks.
        self._most_bytes = worker.queue.max_payload_bytes + envelope.STAMP_BYTES
        self.finished = 0
        self.counts: Counter[tuple[str, str]] = Counter()  # (queue, outcome)
        self.busy_seconds: dict[str, float] = defaultdict(float)

    async def startup(self) -> None:
        """Before the first claim. What a middleware raises here ends the worker."""
        self._scope = injection.WorkerScope(self._worker)
        self.batches.prepare()
        self._started = await self._hooks.startup(self._context())

    async def shutdown(self) -> None:
        """After the last task: hooks end, what tasks depended on closes, middleware shuts down."""
        await self._progress.close()
        if self._telling:
            _, late = await asyncio.wait(self._telling, timeout=_TELL_SECONDS)
            for task in late:
                task.cancel()
        await self._scope.close()
        await self._hooks.shutdown(self._started, self._context())

    def _context(self) -> WorkerContext:
        worker = self._worker
        return WorkerContext(worker.name, tuple(worker.selection.names), worker.slots)

    def start(
        self,
        queue: str,
        task_id: str,
        blob: bytes,
        attempt: int,
        delivery: int,
        inputs: list[bytes] | None,
        *,
        only_gather: bool = False,
    ) -> bool:
        """Run a claimed task, add it to its batch, or bury it with the reason why it cannot be run.

        With `only_gather` a task that needs a slot of its own is left alone, and the answer is false.
        """
        worker = self._worker
        if len(blob) > self._most_bytes:
            self._refuse(queue, task_id, delivery, self.intake.too_large(queue, len(blob), self._most_bytes), attempt)
            return True
        try:
            task = envelope.decode(blob) if self._plain else self._seal.open_task(keys.queue_of(queue), task_id, blob)
        except SerializationError as error:
            looked = self.intake.look_closer(queue, task_id, blob, error)
            if isinstance(looked, Refusal):
                self._refuse(queue, task_id, delivery, looked, attempt)
                return True
            task = looked
        definition = self._queue.find_task(task.name)
        if definition is None:
            problem = f"no task is named {task.name[:200]!r} in this application"
            self._bury(queue, task_id, delivery, "unknown_task", problem, attempt, task)
            return True
        if only_gather and definition.batch is None:
            return False
        settings = task.settings
        if settings and "x" in settings and settings["x"] <= time.time():
            self._end(queue, task_id, delivery, "x", outcome.pack_end(outcome.EXPIRED, "it expired before it ran"))
            return True
        try:
            if inputs is not None:
                task.args.insert(0, self._input(settings, inputs))
            elif settings and "i" in settings:
                # Its first parameter may have a default, which is not what was meant.
                raise SerializationError("the results that it waits for are not there")
            # In the context of the run: a validator of the application's own may set something, too.
            own = worker.context.copy()
            args, kwargs = own.run(definition.signature.load, task.args, task.kwargs)
        except Exception as error:
            # Also what a validator of the application's own raises: the worker has other tasks.
            refusal = self.intake.refuse(queue, blob, error, "bad_arguments")
            self._refuse(queue, task_id, delivery, refusal, attempt, task)
            return True
        loop = worker._loop
        assert loop is not None
        job = Job(task_id, queue, attempt, delivery, task, definition, loop.time(), self._progress)
        if definition.batch is not None:
            self.batches.add(job, args, kwargs)
        else:
            self.launch(job, self._run(job, args, kwargs), own)
        return True

    def launch(self, job: Job, run: Coroutine[Any, Any, None], own: contextvars.Context) -> None:
        """Give the job a slot and let it run in a context of its own: this may be called by the end of another."""
        worker = self._worker
        loop = worker._loop
        assert loop is not None
        if (older := worker.running.get(job.id)) is not None:
            older.interrupt("lost")  # its lease ran out, and we are the worker that took the task over
        worker.running[job.id] = job
        if job.timeout is not None:
            worker.deadlines.watch(job)
        if _EAGER:
            # On the spot as far as it comes; a task that awaits nothing costs no trip through the loop.
            task = JobTask(run, loop=loop, context=own, eager_start=True)  # type: ignore[call-arg,unused-ignore]
            if not task.done():  # one that has ended already is forgotten, as in `_report`
                job.task = task
                task.job = job
        else:
            job.task = task = JobTask(run, loop=loop, context=own)
            task.job = job

    def _input(self, settings: dict[str, Any], records: list[bytes]) -> Any:
        return workflows.first_argument(settings.get("i", 1), records, settings.get("s"), self._seal)

    async def _run(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        definition = job.definition
        context.CURRENT.set(job.context)
        try:
            if job.interruption is not None:
                raise asyncio.CancelledError  # interrupted before its first step
            if definition.plan is not None or self._hooks.execute:
                value = await self._call_through_hooks(job, args, kwargs)
            elif definition.options.executor == "async":
                value = await definition.function(*args, **kwargs)
            elif definition.options.executor == "process":
                value = await self._worker.processes.call(job, keep=self._keeps_result(job))
            else:
                value = await self._worker.threads.call(definition.function, args, kwargs)
            if job.interruption is not None:
                # The handler swallowed its cancellation; what it returned came too late to count.
                raise asyncio.CancelledError
        except BaseException as error:
            # BaseException: a task that calls sys.exit() must not take the worker with it.
            self.note_cancellation(job, error)
            self.ended_badly(job, error, "")
            return
        self.succeed(job, value)

    def note_cancellation(self, job: Job, error: BaseException) -> None:
        """A run that the end of its loop has cancelled, or whatever else is not the task's own, goes back: it has not
        failed. Not for ever: what cancels it may come from it in a way that cannot be seen."""
        if not job.cancelled_outside or job.interruption is not None:
            return
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) or (task is not None and task.cancelling()):
            self._cancelled_outside[job.id] += 1
            if self._worker.draining or self._cancelled_outside[job.id] <= _CANCELLED_OUTSIDE:
                job.interruption = "shutdown"

    async def _call_through_hooks(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> Any:
        definition = job.definition
        args, kwargs = definition.signature.place(args, kwargs)

        def call() -> Coroutine[Any, Any, Any]:
            if definition.options.executor == "process":
                return self._call_in_process(job)
            return self._call_with_dependencies(definition, args, kwargs, job.context)

        if not self._hooks.execute:
            return await call()
        return await self._hooks.around_execute(job.context(), call)()

    async def _call_in_process(self, job: Job) -> Any:
        """The value itself, for middleware to see."""
        returned = await self._worker.processes.call(job, keep=True)
        return returned.value(job.definition.signature.result)

    async def call_batch(self, batch: BatchJob, items: list[BatchItem]) -> Any:
        """Run a batch function inside its hooks, with what it depends on."""

        def call() -> Coroutine[Any, Any, Any]:
            return self._call_with_dependencies(batch.definition, [items], {}, None)

        if not self._hooks.execute_batch:
            return await call()
        return await self._hooks.around_batch([item.context for item in items], call)()

    async def _call_with_dependencies(
        self,
        definition: Definition,
        args: list[Any],
        kwargs: dict[str, Any],
        make_context: injection.MakeContext | None,
    ) -> Any:
        function, threads = definition.function, self._worker.threads
        in_thread = definition.options.executor != "async"
        if definition.plan is None:
            return await (threads.call(function, args, kwargs) if in_thread else function(*args, **kwargs))
        plan = self._queue.overrides.plan_of(definition.plan)

        async def call(values: injection.Values) -> Any:
            if not in_thread:
                return await function(*args, **kwargs, **injection.injected(plan, values))
            given = [plan, values, make_context, function, args, kwargs]
            return await threads.call(injection.call_in_thread, given, {})

        return await injection.call_with(plan, self._scope, make_context, call)

    def succeed(self, job: Job, value: Any) -> None:
        """Record a result, if it can be kept."""
        definition = job.definition
        ttl_ms = self._ttl_ms(job)
        record = b""
        if ttl_ms > 0 or job.setting("n", False):
            try:
                packed = value.packed() if type(value) is Returned else pack_result(definition.signature.result, value)
                record = outcome.pack_success(packed)
                if self._seal.writes:
                    record = self._seal.close("result", keys.queue_of(job.queue), job.id, record)
            except PayloadTooLargeError as error:
                self.fail(job, "result_too_large", f"task {definition.name!r}: {error}", "")
                return
            except SerializationError as error:
                self.fail(job, "bad_result", str(error), "")
                return
            if len(record) > self._queue.max_result_bytes:
                self.fail(job, "result_too_large", str(self._too_large(job, len(record))), "")
                return
        self._report(job, "s", record, ttl_ms, 0)

    def _ttl_ms(self, job: Job) -> int:
        ttl = job.setting("k", job.definition.options.result_ttl)
        return int((self._queue.result_ttl if ttl is None else ttl) * 1000)

    def _keeps_result(self, job: Job) -> bool:
        return self._ttl_ms(job) > 0 or bool(job.setting("n", False))  # others of its workflow wait for it

    def ended_badly(self, job: Job, error: BaseException, text: str) -> None:
        """Decide what becomes of a run that raised `error`; `text` is its traceback, by default the current one."""
        if job.interruption is not None:
            # Whatever it raised on its way out, it was stopped, and why decides.
            if job.interruption == "lost":
                self.forget(job)
            elif job.interruption == "shutdown":
                self._report(job, "n", *self._if_cancelled(), 0)
            elif job.interruption == "cancel":
                self._report(job, "c", *self._if_cancelled(), 0)
            else:
                self._retry_or_fail(job, error, "timeout", f"it ran longer than its timeout of {job.timeout:g} s", "")
            return
        if isinstance(error, ChildError):
            self._retry_or_fail(job, error, "exception", str(error), error.traceback)
        elif isinstance(error, ProcessDiedError):
            self._retry_or_fail(job, error, "crashed", str(error), "")
        else:
            message = f"{type(error).__name__}: {error}"
            self._retry_or_fail(job, error, "exception", message, text or traceback.format_exc())

    def _retry_or_fail(self, job: Job, error: BaseException, reason: str, message: str, text: str) -> None:
        options = job.definition.options
        max_retries = job.setting("r", options.max_retries)
        max_age = job.setting("a", options.max_age)
        too_old = max_age is not None and time.time() - job.envelope.enqueued_ms / 1000 > max_age
        always = is_any(error, options.always_retry) if options.always_retry else False
        never = is_any(error, options.never_retry) if options.never_retry else False
        if too_old or never or (job.attempt > max_retries and not always):
            self.fail(job, reason, message, text)
            return
        asked = error.delay if isinstance(error, (RetryLater, ChildError)) else None
        delay = _retry_of(job).seconds(job.attempt) if asked is None else asked
        logger.debug(
            "task %s (%s) attempt %d: %s; again in %.3g s", job.id, job.definition.name, job.attempt, message, delay
        )
        self._report(job, "r", *self._if_cancelled(), delay_ms(delay))
        if self._hooks.on_retry:
            self._tell(job.context, self._hooks.tell_retry(job.context(), reason, message, delay))

    def _too_large(self, job: Job, size: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"task {job.definition.name!r}: its result has {size} bytes, more than "
            f"max_result_bytes={self._queue.max_result_bytes}; store it elsewhere and return its address"
        )

    def fail(self, job: Job, reason: str, message: str, text: str) -> None:
        logger.debug("task %s (%s) failed: %s", job.id, job.definition.name, message)
        self._report(job, "f", *self._if_cancelled(), outcome.pack_failure(reason, message, text))
        if self._hooks.on_dead:
            self._tell(job.context, self._hooks.tell_dead(job.context(), reason, message))

    def _tell(self, about: injection.MakeContext, telling: Coroutine[Any, Any, None]) -> None:
        # Beside the task: a hook that hangs must not keep the slot, nor the outcome from being recorded.
        own = self._worker.context.copy()
        own.run(context.CURRENT.set, about)
        task = background.start(telling, context=own)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _report(self, job: Job, code: str, result: bytes, ttl_ms: int, extra: Any) -> None:
        worker = self._worker
        now = worker.now()
        if worker.running.get(job.id) is job:
            del worker.running[job.id]
        elif not self.batches.release(job):
            return  # abandoned: it is another worker's by now, or a newer delivery's
        job.task = None  # it holds the context, which holds the job: nobody but the collector would undo that
        if self._seal.writes and code != "s":  # a success is sealed already: its size had to be known
            result, extra = self._sealed(job.queue, job.id, result, extra)
        self.finished += 1
        self.counts[job.queue, code] += 1
        self.busy_seconds[job.queue] += now - job.started
        worker.finished((job.id, job.delivery, code, job.unbilled_ms(now), result, ttl_ms, extra), job.queue)

    def forget(self, job: Job) -> None:
        """Another worker has the task: nothing is recorded by us."""
        worker = self._worker
        if worker.running.get(job.id) is job:
            del worker.running[job.id]
        self.batches.release(job)
        if worker.held.get(job.id) == (job.queue, job.delivery):
            del worker.held[job.id]
        worker.look()

    def _bury(
        self,
        queue: str,
        task_id: str,
        delivery: int,
        reason: str,
        message: str,
        attempt: int,
        task: envelope.Envelope | None = None,
    ) -> None:
        logger.warning("task %s of queue %s goes to the dead letters: %.500s", task_id, queue, message)
        self.counts[queue, "d"] += 1
        cancelled, ttl_ms = self._if_cancelled()
        cancelled, record = self._sealed(queue, task_id, cancelled, outcome.pack_failure(reason, message, ""))
        self._worker.finished((task_id, delivery, "d", 0, cancelled, ttl_ms, record), queue)
        if self._hooks.on_dead:
            # One that cannot be read has no name, and came at an unknown time.
            name, headers, came = (task.name, task.settings.get("h"), task.enqueued_ms) if task else ("?", None, 0.0)
            enqueued = dt.datetime.fromtimestamp(came / 1000, dt.UTC)
            lost = TaskContext(task_id, name, queue, attempt, delivery, enqueued, None, headers or {})
            self._tell(lambda: lost, self._hooks.tell_dead(lost, reason, message))

    def cancel_unstarted(self, job: Job) -> None:
        """A task that was cancelled after its claim and before its run."""
        self._end(job.queue, job.id, job.delivery, "c", outcome.pack_end(outcome.CANCELLED, "cancelled before it ran"))

    def expire(self, job: Job) -> None:
        """A task whose time has passed after its claim and before its run."""
        self._end(job.queue, job.id, job.delivery, "x", outcome.pack_end(outcome.EXPIRED, "it expired before it ran"))

    def _refuse(
        self,
        queue: str,
        task_id: str,
        delivery: int,
        refusal: Refusal,
        attempt: int,
        task: envelope.Envelope | None = None,
    ) -> None:
        if refusal.delay_ms:
            self.counts[queue, "n"] += 1
            self._worker.finished(self.handed_back(queue, task_id, delivery, refusal.delay_ms), queue)
        else:
            self._bury(queue, task_id, delivery, refusal.reason, refusal.message, attempt, task)

    def handed_back(self, queue: str, task_id: str, delivery: int, delay_ms: int = 0) -> Outcome:
        """The outcome of a task that goes back unstarted; cancelled in the meantime, it ends as that."""
        cancelled, ttl_ms = self._if_cancelled()
        cancelled, _ = self._sealed(queue, task_id, cancelled, 0)
        return (task_id, delivery, "n", 0, cancelled, ttl_ms, delay_ms)

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
