"""Starting one claimed task: its payload is decoded and checked, and it gets a slot or joins a batch."""

from __future__ import annotations

from typing import Any

from taskfleet import describing, showing, tracing, waited_results
from taskfleet.application import Application
from taskfleet.errors import SerializationError
from taskfleet.protocol import call_settings, envelope
from taskfleet.protocol.envelope import Envelope
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.runtime.recording.endings import Endings
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.rejections import Refusal, Rejections
from taskfleet.runtime.recording.unstarted import Unstarted
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.running.launcher import Launcher
from taskfleet.runtime.running.runner import Runner
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.job import Job, ReportProgress
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally

logger = showing.logger("taskfleet.worker")

_MOST_LINKS = 32  # of a run to the runs that it waited for


class Execution:
    """Turns a claim into a job that runs or gathers in a batch, or into a dead letter when it cannot be run."""

    def __init__(
        self,
        application: Application,
        context: RunContext,
        slots: Slots,
        held: Held,
        launcher: Launcher,
        runner: Runner,
        batches: Batches,
        endings: Endings,
        outcomes: Outcomes,
        rejections: Rejections,
        unstarted: Unstarted,
        report_progress: ReportProgress,
        tally: Tally,
    ) -> None:
        self._find_task = application.find_task
        self._seal = application.seal
        # Whether payloads are neither sealed nor signed, so that they go straight to the decoder.
        self._plain = not (self._seal.writes or self._seal.requires)
        # A longer payload is not examined: it would take the memory of several tasks.
        self._most_bytes = application.max_payload_bytes + envelope.STAMP_BYTES
        self._context = context
        self._slots = slots
        self._held = held
        self._launcher = launcher
        self._runner = runner
        self._batches = batches
        self._endings = endings
        self._outcomes = outcomes
        self._rejections = rejections
        self._unstarted = unstarted
        self._report_progress = report_progress
        self._tally = tally

    def start(
        self,
        partition: Partition,
        task_id: str,
        blob: bytes,
        attempt: int,
        delivery: int,
        inputs: list[bytes] | None,
        ready_ms: int = 0,
        *,
        only_gather: bool = False,
    ) -> bool:
        """Run a claimed task, add it to its batch, or make it a dead letter with the reason why it cannot be run.

        With `only_gather` a task that needs its own slot is left alone, and the result is false.
        """
        try:
            return self._start(partition, task_id, blob, attempt, delivery, inputs, ready_ms, only_gather)
        except BaseException as error:
            # A last resort: an error of one task must not reach the others.
            logger.exception("task %s of queue %s cannot be started", showing.shown(task_id), partition)
            job = self._slots.running.get(task_id)
            if job is not None and job.delivery == delivery:
                self._endings.raised(job, error, "")
            elif self._held.get(task_id) == (partition, delivery) and not self._batches.has(task_id):
                problem = describing.describe(error)
                self._unstarted.bury(partition, task_id, delivery, "internal", problem, attempt)
            return True

    def _start(
        self,
        partition: Partition,
        task_id: str,
        blob: bytes,
        attempt: int,
        delivery: int,
        inputs: list[bytes] | None,
        ready_ms: int,
        only_gather: bool,
    ) -> bool:
        task: Envelope | None
        if self._plain and len(blob) <= self._most_bytes:
            try:
                task = envelope.decode(blob)
            except SerializationError as error:
                looked = self._rejections.look_closer(partition, task_id, blob, error)
                task = self._unless_refused(partition, task_id, delivery, looked, attempt)
        else:
            opened = self._open(partition, task_id, blob)
            task = self._unless_refused(partition, task_id, delivery, opened, attempt)
        if task is None:
            return True
        definition = self._find_task(task.name)
        if definition is None:
            self._bury_unknown(partition, task_id, delivery, attempt, task)
            return True
        if only_gather and definition.batch is None:
            return False
        settings = task.settings
        if settings and self._has_expired(partition, settings):
            self._outcomes.expire(partition, task_id, delivery)
            return True
        variables = self._context.variables.copy()
        try:
            if inputs is not None or (settings and call_settings.INPUT_SHAPE in settings):
                task.args.insert(0, self._first_argument(settings, inputs))
            args, kwargs, signature = task.args, task.kwargs, definition.signature
            if kwargs or tuple(map(type, args)) != signature.plain:
                # In the context of the run, since a validator of the application may set a context variable.
                args, kwargs = variables.run(signature.load, args, kwargs)
        except BaseException as error:
            # Also exceptions of the application's validators, which must not affect other tasks.
            refusal = self._rejections.refuse(partition, blob, error, "bad_arguments")
            self._unstarted.refuse(partition, task_id, delivery, refusal, attempt, task)
            return True
        started = self._context.loop.time()
        figures = self._tally.task(partition, definition.name)
        ready = (ready_ms or task.enqueued_ms) / 1000 - self._tally.ahead.get(partition, 0.0)
        job = Job(
            task_id, partition, attempt, delivery, task, definition, started, ready, figures, self._report_progress
        )
        if inputs and settings and call_settings.HEADERS in settings:
            job.waited_for = self._traces_of(settings, inputs)
        if definition.batch is not None:
            self._batches.add(job, args, kwargs)
        else:
            self._launcher.launch(job, self._runner.run(job, args, kwargs), variables)
        return True

    def _open(self, partition: Partition, task_id: str, blob: bytes) -> Envelope | Refusal:
        """The task of a sealed payload, or of one that is too large."""
        if len(blob) > self._most_bytes:
            return self._rejections.too_large(partition, len(blob), self._most_bytes)
        try:
            return self._seal.open_task(queue_of(partition), task_id, blob)
        except SerializationError as error:
            return self._rejections.look_closer(partition, task_id, blob, error)

    def _unless_refused(
        self, partition: Partition, task_id: str, delivery: int, task: Envelope | Refusal, attempt: int
    ) -> Envelope | None:
        if isinstance(task, Refusal):
            self._unstarted.refuse(partition, task_id, delivery, task, attempt)
            return None
        return task

    def _has_expired(self, partition: Partition, settings: dict[str, Any]) -> bool:
        expires = settings.get(call_settings.EXPIRES_AT)
        return expires is not None and expires <= self._context.redis_seconds(partition)

    def _bury_unknown(self, partition: Partition, task_id: str, delivery: int, attempt: int, task: Envelope) -> None:
        # The producer reads this, whose own application has the task.
        cause = "an older deployment, or another application on this queue"
        problem = f"no task is named {task.name[:200]!r} in the worker that took it: {cause}"
        self._unstarted.bury(partition, task_id, delivery, "unknown_task", problem, attempt, task)

    def _traces_of(self, settings: dict[str, Any], records: list[bytes]) -> tuple[str, ...]:
        """The traces of the runs whose results these are, where the task itself is in a trace that is kept."""
        headers = settings[call_settings.HEADERS]
        own = tracing.parsed(headers.get(tracing.PARENT_HEADER)) if type(headers) is dict else None
        if own is None or not own.sampled:
            return ()
        return waited_results.traces_of(records[:_MOST_LINKS], settings.get(call_settings.INPUT_SOURCES), self._seal)

    def _first_argument(self, settings: dict[str, Any], records: list[bytes] | None) -> Any:
        """The results that the task waited for, nested as its caller wrote them."""
        if records is None:
            # The first parameter may have a default, which the caller did not mean.
            raise SerializationError("the results that it waits for are not there")
        shape, sources = settings.get(call_settings.INPUT_SHAPE, 1), settings.get(call_settings.INPUT_SOURCES)
        return waited_results.first_argument(shape, records, sources, self._seal)
