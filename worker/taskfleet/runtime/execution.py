"""Running one task: decode, call, and turn what happened into an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from taskfleet import background, context, describing, showing, workflows
from taskfleet.context import TaskContext
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.middleware import Middleware, WorkerContext
from taskfleet.protocol import dead_letter, envelope, result_record
from taskfleet.protocol.partitions import queue_of
from taskfleet.retry import MAX_SECONDS, delay_ms
from taskfleet.runtime import injection, retrying, returned
from taskfleet.runtime.batches import Batches, BatchJob
from taskfleet.runtime.job import Job, JobTask
from taskfleet.runtime.process_executor import ChildError, ProcessDiedError, Returned
from taskfleet.runtime.progress import ProgressReporter
from taskfleet.runtime.rejections import Intake, Refusal
from taskfleet.runtime.reporting import Reports
from taskfleet.tasks.batch import BatchItem
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.signature import pack_result

if TYPE_CHECKING:
    from taskfleet.protocol.outcome import Outcome
    from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.worker")

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
_PLAIN = frozenset({bool, int, float, str, bytes, list, dict, tuple})
_MOST_CANCELLED = 10_000  # of which it is remembered
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
        self.reports = Reports(context=lambda: worker.context.copy())
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
        self.reports.flush(all_of_them=True)
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
        try:
            return self._start(queue, task_id, blob, attempt, delivery, inputs, only_gather)
        except BaseException as error:
            # Nothing should get so far, and nothing of one task may reach the others.
            logger.exception("task %s of queue %s cannot be started", showing.shown(task_id), queue)
            job = self._worker.running.get(task_id)
            if job is not None and job.delivery == delivery:
                self.ended_badly(job, error, "")
            elif self._worker.held.get(task_id) == (queue, delivery) and not self.batches.has(task_id):
                self._bury(queue, task_id, delivery, "internal", describing.describe(error), attempt)
            return True

    def _start(
        self,
        queue: str,
        task_id: str,
        blob: bytes,
        attempt: int,
        delivery: int,
        inputs: list[bytes] | None,
        only_gather: bool,
    ) -> bool:
        worker = self._worker
        if len(blob) > self._most_bytes:
            self._refuse(queue, task_id, delivery, self.intake.too_large(queue, len(blob), self._most_bytes), attempt)
            return True
        try:
            task = envelope.decode(blob) if self._plain else self._seal.open_task(queue_of(queue), task_id, blob)
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
        if settings and "x" in settings and settings["x"] <= worker.redis_seconds(queue):
            self._end(queue, task_id, delivery, "x", result_record.pack_expired("it expired before it ran"))
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
        except BaseException as error:
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
            worker.stopping.stop(older, "lost")  # its lease ran out, and we are the worker that took the task over
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
                value = await self._call_in_thread(definition.function, args, kwargs)
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
            if len(self._cancelled_outside) > _MOST_CANCELLED:
                self._cancelled_outside.clear()
            self._cancelled_outside[job.id] += 1
            if self._worker.draining or self._cancelled_outside[job.id] <= _CANCELLED_OUTSIDE:
                job.interruption = "shutdown"

    async def _call_through_hooks(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> Any:
        definition = job.definition
        args, kwargs = definition.signature.place(args, kwargs)
        answers: list[Returned] = []

        def call() -> Coroutine[Any, Any, Any]:
            if definition.options.executor == "process":
                return self._call_in_process(job, answers)
            return self._call_with_dependencies(definition, args, kwargs, job.context)

        if not self._hooks.execute:
            return await call()
        value = await self._hooks.around_execute(job.context(), call)()
        # What middleware has left as it is has been packed, and must not be validated a second time.
        return answers[-1] if answers and value is answers[-1].seen else value

    async def _call_in_thread(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        value = await self._worker.threads.call(function, args, kwargs)
        if value is not None and type(value) not in _PLAIN and returned.is_awaitable(value):
            return await value  # it is a plain function around an async one
        return value

    async def _call_in_process(self, job: Job, answers: list[Returned]) -> Any:
        """The value itself, for middleware to see."""
        answers.append(await self._worker.processes.call(job, keep=True))
        return answers[-1].value(job.definition.signature.result)

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
        function = definition.function
        in_thread = definition.options.executor != "async"
        if definition.plan is None:
            return await (self._call_in_thread(function, args, kwargs) if in_thread else function(*args, **kwargs))
        plan = self._queue.overrides.plan_of(definition.plan)

        async def call(values: injection.Values) -> Any:
            if not in_thread:
                return await function(*args, **kwargs, **injection.injected(plan, values))
            given = [plan, values, make_context, function, args, kwargs]
            return await self._worker.threads.call(injection.call_in_thread, given, {})

        return await injection.call_with(plan, self._scope, make_context, call)

    def succeed(self, job: Job, value: Any) -> None:
        """Record a result, if it can be kept."""
        try:
            if value is not None and type(value) not in _PLAIN and (what := returned.unfinished(value)):
                self.fail(job, "bad_result", f"it returned {what}", "")
                return
            ttl_ms = self._ttl_ms(job)
            record = b""
            if ttl_ms > 0 or job.setting("n", False):
                try:
                    record = self._result_record(job, value)
                except PayloadTooLargeError as error:
                    self.fail(job, "result_too_large", f"task {job.definition.name!r}: {error}", "")
                    return
                except SerializationError as error:
                    self.fail(job, "bad_result", describing.text_of(error), "")
                    return
                except BaseException as error:
                    # A validator of the application's own may raise anything.
                    message = (
                        f"task {job.definition.name!r}: its result cannot be encoded: {describing.describe(error)}"
                    )
                    self.fail(job, "bad_result", message, describing.trace(error))
                    return
                if len(record) > self._queue.max_result_bytes:
                    self.fail(job, "result_too_large", str(self._too_large(job, len(record))), "")
                    return
            self._report(job, "s", record, ttl_ms, 0)
        except BaseException as problem:
            self._unrecordable(job, problem)

    def _result_record(self, job: Job, value: Any) -> bytes:
        if type(value) is Returned:
            record = value.record()
        else:
            record = pack_result(job.definition.signature.result, value, passed_on=bool(job.setting("n", False)))
        return self._seal.close("result", queue_of(job.queue), job.id, record) if self._seal.writes else record

    def _ttl_ms(self, job: Job) -> int:
        ttl = job.setting("k", job.definition.options.result_ttl)
        ttl = self._queue.result_ttl if ttl is None else ttl
        # Bounded: a time to live that Redis refuses would end the call that records it, and all others with it.
        return int(ttl * 1000) if 0 < ttl <= MAX_SECONDS else _odd_ttl_ms(ttl)

    def _keeps_result(self, job: Job) -> bool:
        return self._ttl_ms(job) > 0 or bool(job.setting("n", False))  # others of its workflow wait for it

    def ended_badly(self, job: Job, error: BaseException, text: str) -> None:
        """Record what becomes of a run that raised `error`; `text` is its traceback, if it is at hand.

        Nothing that an error is made of can keep its end from being recorded.
        """
        try:
            if self._worker.runs(job):
                self._end_badly(job, error, text)
        except BaseException as problem:
            self._unrecordable(job, problem)

    def _end_badly(self, job: Job, error: BaseException, text: str) -> None:
        kind = type(error)  # not isinstance: what an error says of its class is code of the application
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
        elif kind is ChildError:
            self._retry_or_fail(job, error, "exception", str(error), cast("ChildError", error).traceback)
        elif kind is ProcessDiedError:
            self._retry_or_fail(job, error, "crashed", str(error), "")
        else:
            self._retry_or_fail(job, error, "exception", describing.describe(error), text or describing.trace(error))

    def give_up(self, job: Job) -> None:
        """Record the end of a job whose handler goes on though it was stopped."""
        if isinstance(job, BatchJob):
            self.batches.give_up(job)
        else:
            self.ended_badly(job, asyncio.CancelledError(), "")

    def _unrecordable(self, job: Job, problem: BaseException) -> None:
        """The last resort: a failure that says why the end as it was could not be recorded."""
        with contextlib.suppress(BaseException):
            logger.error("task %s: its end could not be recorded as it was:\n%s", job.id, describing.trace(problem))
        message = f"its end could not be recorded: {describing.describe(problem)}"
        self._report(job, "f", b"", 0, dead_letter.pack_failure("internal", message, describing.trace(problem)))

    def _retry_or_fail(self, job: Job, error: BaseException, reason: str, message: str, text: str) -> None:
        if not retrying.is_wanted(job, error, self._worker.redis_seconds):
            self.fail(job, reason, message, text, error)
            return
        delay = retrying.delay_seconds(job, error)
        if not self._report(job, "r", *self._if_cancelled(), delay_ms(delay)):
            return
        self.reports.retried(job, message, delay)
        if self._hooks.on_retry:
            self._tell(job.context, lambda about: self._hooks.tell_retry(about, reason, message, delay))

    def _too_large(self, job: Job, size: int) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"task {job.definition.name!r}: its result has {size} bytes, more than "
            f"max_result_bytes={self._queue.max_result_bytes}; store it elsewhere and return its address"
        )

    def fail(self, job: Job, reason: str, message: str, text: str, error: BaseException | None = None) -> None:
        record = dead_letter.pack_failure(reason, message, text)
        if not self._report(job, "f", *self._if_cancelled(), record):
            return
        self.reports.failed(job, reason, message, text, error)
        if self._hooks.on_dead:
            self._tell(job.context, lambda about: self._hooks.tell_dead(about, reason, message))

    def _tell(self, about: injection.MakeContext, telling: Callable[[TaskContext], Coroutine[Any, Any, None]]) -> None:
        # Beside the task: a hook that hangs must not keep the slot, nor the outcome from being recorded.
        own = self._worker.context.copy()
        own.run(context.CURRENT.set, about)
        task = background.start(telling(about()), context=own)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _report(self, job: Job, code: str, result: bytes, ttl_ms: int, extra: Any) -> bool:
        """Free the slot and hand the outcome to the worker; returns whether it is ours to tell, which it is once."""
        worker = self._worker
        now = worker.now()
        alone = worker.running.get(job.id) is job
        if not alone and not self.batches.runs(job):
            return False  # abandoned: it is another worker's by now, or a newer delivery's
        if self._seal.writes and code != "s":  # a success is sealed already: its size had to be known
            result, extra = self._sealed(job.queue, job.id, result, extra)
        ended = (job.id, job.delivery, code, job.unbilled_ms(now), result, ttl_ms, extra)
        if alone:
            del worker.running[job.id]
        else:
            self.batches.release(job)
        job.task = None  # it holds the context, which holds the job: nobody but the collector would undo that
        self.finished += 1
        self.counts[job.queue, code] += 1
        self.busy_seconds[job.queue] += now - job.started
        worker.finished(ended, job.queue)
        return True

    def forget(self, job: Job) -> None:
        """Another worker has the task: nothing is recorded by us."""
        job.task = None  # as in `_report`
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
        self.reports.buried(queue, task_id, task.name if task else "?", attempt, reason, message)
        self.counts[queue, "d"] += 1
        cancelled, ttl_ms = self._if_cancelled()
        cancelled, record = self._sealed(queue, task_id, cancelled, dead_letter.pack_failure(reason, message, ""))
        self._worker.finished((task_id, delivery, "d", 0, cancelled, ttl_ms, record), queue)
        if self._hooks.on_dead:
            # One that cannot be read has no name, and came at an unknown time.
            name, headers, came = (task.name, task.settings.get("h"), task.enqueued_ms) if task else ("?", None, 0.0)
            enqueued = dt.datetime.fromtimestamp(came / 1000, dt.UTC)
            lost = TaskContext(task_id, name, queue, attempt, delivery, enqueued, None, headers or {})
            self._tell(lambda: lost, lambda about: self._hooks.tell_dead(about, reason, message))

    def bury_unread(self, queue: str, task_id: str, delivery: int) -> None:
        """A task whose claim is too large to be read at all."""
        self.intake.counts[queue, "too_large"] += 1
        problem = (
            "its payload, with the results that it waits for, is larger than one reply of Redis may be here; raise "
            "max_payload_bytes where workers are started, or store the data elsewhere and pass its address"
        )
        self._bury(queue, task_id, delivery, "too_large", problem, 1)

    def cancel_unstarted(self, job: Job) -> None:
        """A task that was cancelled after its claim and before its run."""
        self._end(
            job.queue,
            job.id,
            job.delivery,
            "c",
            result_record.pack_cancelled("cancelled before it ran"),
        )

    def expire(self, job: Job) -> None:
        """A task whose time has passed after its claim and before its run."""
        self._end(
            job.queue,
            job.id,
            job.delivery,
            "x",
            result_record.pack_expired("it expired before it ran"),
        )

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

    def failed_outcome(self, queue: str, task_id: str, delivery: int, reason: str, message: str) -> Outcome:
        """The outcome of a failure in its plainest form."""
        _, record = self._sealed(queue, task_id, b"", dead_letter.pack_failure(reason, message, ""))
        return (task_id, delivery, "f", 0, b"", 0, record)

    def handed_back(self, queue: str, task_id: str, delivery: int, delay_ms: int = 0) -> Outcome:
        """The outcome of a task that goes back unstarted; cancelled in the meantime, it ends as that."""
        cancelled, ttl_ms = self._if_cancelled()
        cancelled, _ = self._sealed(queue, task_id, cancelled, 0)
        return (task_id, delivery, "n", 0, cancelled, ttl_ms, delay_ms)

    def _sealed(self, queue: str, task_id: str, result: bytes, extra: Any) -> tuple[bytes, Any]:
        """What an outcome stores, sealed: its result record and, when it is one, its error record."""
        if result:
            result = self._seal.close("result", queue_of(queue), task_id, result)
        if isinstance(extra, bytes):
            extra = self._seal.close("error", queue_of(queue), task_id, extra)
        return result, extra

    def _end(self, queue: str, task_id: str, delivery: int, code: str, record: bytes) -> None:
        self.counts[queue, code] += 1
        record, _ = self._sealed(queue, task_id, record, 0)
        if code == "x":
            cancelled, ttl_ms = self._if_cancelled()
            extra: Any = self._sealed(queue, task_id, cancelled, 0)[0]
        else:
            extra, ttl_ms = 0, self._cancelled_ttl_ms()
        self._worker.finished((task_id, delivery, code, 0, record, ttl_ms, extra), queue)

    def _if_cancelled(self) -> tuple[bytes, int]:
        """The record of a cancellation: Redis may know of one that has not reached us."""
        return result_record.pack_cancelled("cancelled while it ran"), self._cancelled_ttl_ms()

    def _cancelled_ttl_ms(self) -> int:
        # Even with results off, somebody who asks soon learns why there is none.
        ttl = self._queue.result_ttl
        return max(60_000, int(ttl * 1000) if 0 < ttl <= MAX_SECONDS else _odd_ttl_ms(ttl))

    def outcomes(self) -> dict[tuple[str, str], int]:
        """(queue, outcome name) → how many; safe to call on another thread."""
        return {(queue, _NAMES[code]): n for (queue, code), n in self.counts.copy().items()}


def _odd_ttl_ms(ttl: float) -> int:
    """0 for what keeps nothing, and the longest for what is longer than that."""
    return int(MAX_SECONDS * 1000) if ttl > MAX_SECONDS else 0
