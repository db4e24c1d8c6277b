"""The middleware that makes the spans: one of each enqueue, of each wait and of each run."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TracerProvider
from opentelemetry.util.types import AttributeValue

from taskfleet import describing, showing, tracing, version
from taskfleet.context import CURRENT, WORKER, TaskContext
from taskfleet.handles import TaskHandle
from taskfleet.integrations.opentelemetry import conventions, spans
from taskfleet.integrations.opentelemetry.earlier import EarlierRun, earlier_run
from taskfleet.integrations.opentelemetry.measuring import NAME, Measures
from taskfleet.integrations.opentelemetry.sampling import Sampling
from taskfleet.middleware import CallNext, OptionalMiddleware, SendNext
from taskfleet.protocol.sealing import Seal
from taskfleet.retry import RetryLater
from taskfleet.runtime.executors.process_answers import ChildError
from taskfleet.session import Sessions
from taskfleet.tasks.message import Message

logger = showing.logger("taskfleet.opentelemetry")

R = TypeVar("R")
Attributes = dict[str, AttributeValue]

# Of a run that the worker has stopped, by the reason.
_OUTCOMES = {"lost": "lease_lost", "shutdown": "returned"}
_MOST_SENT = 4096  # enqueues that are remembered
_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_CONTEXT = Context()
_MOST_LINKED = 128  # tasks of a batch: the default limit of an SDK on the links of a span


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """See `instrument`."""

    wait_spans: bool = True
    separate_traces: bool = False
    baggage: bool = False
    record_exceptions: bool = True


class OpenTelemetryMiddleware(OptionalMiddleware):
    """Spans and metrics of one queue. A fault of the SDK or of an exporter is logged and harms no task."""

    def __init__(
        self,
        sessions: Sessions,
        seal: Seal,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        options: SpanOptions,
    ) -> None:
        self._sessions = sessions
        self._seal = seal
        self._options = options
        self._tracer = trace.get_tracer(NAME, version.__version__, tracer_provider, conventions.SCHEMA_URL)
        self._sampling = Sampling(self._tracer)
        self.measures = Measures(meter_provider)
        # The enqueues of this process, for the tasks that are sent to wait for them.
        self._sent: OrderedDict[str, str] = OrderedDict()  # `traceparent` by task id

    # What is in no trace that is kept goes without the hooks below: most of it, where a sampler keeps little.

    def headers_instead(self) -> Mapping[str, str] | None:
        """The headers of one message whose span would not be kept; None when it may be."""
        if self._options.baggage or self.measures.on:
            return None
        return _safely(self._headers_instead)

    def _headers_instead(self) -> Mapping[str, str] | None:
        around = trace.get_current_span().get_span_context()
        if around.is_valid:
            return spans.headers_of(around) if self._sampling.drops(around) else None
        if root := self._sampling.unsampled_root():
            return {tracing.PARENT_HEADER: root}
        return _NOTHING if self._sampling.drops(None) else None

    def runs_plain(self, headers: object) -> bool:
        """Whether the span of a run would not be kept. What the run logs and sends stays in the trace."""
        if self._options.baggage or self._options.separate_traces or self.measures.on:
            return False
        return _safely(self._runs_plain, headers) or False

    def _runs_plain(self, headers: object) -> bool:
        sender: Span
        if unsampled := spans.unsampled_sender(headers):
            if not self._sampling.drops_unsampled():
                return False
            sender = unsampled
        else:
            creator = spans.creator_of(headers)
            if not self._sampling.drops(creator):
                return False
            if creator is None:
                return True
            tracing.RUN.set(tracing.parsed(spans.text_of(headers, tracing.PARENT_HEADER, tracing.PARENT_LENGTH)))
            sender = trace.NonRecordingSpan(creator)
        # The context is that of the run and ends with it, so the sender's span is the current one until its outcome.
        contexts.attach(trace.set_span_in_context(sender, _NO_CONTEXT))
        return True

    # Sending.

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        began = time.perf_counter()
        span = _safely(self._begin_sending, messages)
        token = None if span is None else contexts.attach(trace.set_span_in_context(span))
        error_type = ""
        try:
            handles = await call_next()
            if span is not None:
                _safely(self._note_handles, span, messages, handles)
        except BaseException as error:
            error_type = spans.type_name(type(error))
            if span is not None:
                _safely(self._note, span, error, error_type)
            raise
        finally:
            if span is not None and token is not None:
                contexts.detach(token)
                _safely(span.end)
            if self.measures.on:
                _safely(self.measures.sent, messages, time.perf_counter() - began, error_type)

    def _begin_sending(self, messages: Sequence[Message[Any]]) -> Span | None:
        """The span of an enqueue; None where it would not be kept. Its ids are in the headers of all messages."""
        span = trace.get_current_span()
        around = span.get_span_context()
        own = None
        if not self._sampling.drops(around if around.is_valid else None):
            span = own = self._start_sending(messages)
            around = span.get_span_context()
        traced = spans.headers_of(around)
        recording = own is not None and own.is_recording()
        for message in messages:
            message.headers.update(traced)
            if self._options.baggage:
                spans.inject_baggage(message.headers)
            if recording:
                self._note_times(message)
        return own if recording else None

    def _start_sending(self, messages: Sequence[Message[Any]]) -> Span:
        attributes = _attributes(conventions.SEND, conventions.SEND)
        if len(messages) == 1:  # by far the most frequent
            (message,) = messages
            task = message.task.name
            attributes[conventions.DESTINATION] = message.options.queue
            attributes[conventions.TASK] = task
            return self._tracer.start_span(f"{conventions.SEND} {task}", kind=SpanKind.PRODUCER, attributes=attributes)
        attributes[conventions.BATCH_COUNT] = len(messages)
        queues = {message.queue for message in messages}
        tasks = {message.task.name for message in messages}
        name = conventions.SEND
        if len(queues) == 1:
            (queue,) = queues
            attributes[conventions.DESTINATION], name = queue, f"{conventions.SEND} {queue}"
        if len(tasks) == 1:
            (task,) = tasks
            attributes[conventions.TASK], name = task, f"{conventions.SEND} {task}"
        return self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)

    def _note_times(self, message: Message[Any]) -> None:
        """What the spans of the run need to know of the call, in its headers."""
        options = message.options
        if options.eta:
            message.headers[spans.DELAY_HEADER] = f"@{options.eta:.3f}"
        elif options.delay:
            message.headers[spans.DELAY_HEADER] = f"{options.delay:.3f}"
        known = [self._sent[handle.id] for handle in options.after if handle.id in self._sent]
        if known:
            message.headers[spans.AFTER_HEADER] = " ".join(known[: spans.MOST_LINKS])

    def _note_handles(self, span: Span, messages: Sequence[Message[Any]], handles: Sequence[TaskHandle[Any]]) -> None:
        if len(messages) == 1:
            span.set_attribute(conventions.MESSAGE_ID, handles[0].id)
        traceparent = messages[0].headers.get(tracing.PARENT_HEADER, "") if messages else ""
        for handle in handles[: spans.MOST_LINKS]:
            self._sent[handle.id] = traceparent
        while len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)

    # Running.

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        creator = spans.creator_of(task.headers)
        if self._sampling.drops(None if self._options.separate_traces else creator):
            return await self._run_untraced(task, creator, call_next)
        parent = spans.parent_context(
            None if self._options.separate_traces else creator, task.headers, baggage=self._options.baggage
        )
        span = _safely(self._begin_run, task, creator, parent) or trace.INVALID_SPAN
        queue = task.queue.partition("/")[0]
        try:
            if span.is_recording():
                earlier = await earlier_run(self._sessions, self._seal, task) if task.delivery > 1 else None
                _safely(self._complete, span, task, parent, earlier)
            return await self._run(span, parent, (queue, task.name, 1), call_next)
        finally:
            _safely(span.end)

    async def _run_untraced(self, task: TaskContext, creator: SpanContext | None, call_next: CallNext) -> Any:
        """Run a task whose span would not be kept. Its lines in the log, and what it sends, stay in the trace."""
        if creator is None:
            return await self._measured((task.queue.partition("/")[0], task.name, 1), call_next, None)
        tracing.RUN.set(tracing.parsed(task.headers.get(tracing.PARENT_HEADER)))
        token = contexts.attach(spans.parent_context(creator, task.headers, baggage=self._options.baggage))
        try:
            return await self._measured((task.queue.partition("/")[0], task.name, 1), call_next, None)
        finally:
            contexts.detach(token)

    async def execute_batch(self, tasks: Sequence[TaskContext], call_next: CallNext) -> Any:
        span = _safely(self._begin_batch, tasks) or trace.INVALID_SPAN
        queue = tasks[0].queue.partition("/")[0]
        try:
            outcomes = await self._run(span, Context(), (queue, tasks[0].name, len(tasks)), call_next)
            if isinstance(outcomes, (list, tuple)) and _interruption() is None:
                _safely(_note_items, span, outcomes)
            return outcomes
        finally:
            _safely(span.end)

    def _begin_run(self, task: TaskContext, creator: SpanContext | None, parent: Context) -> Span:
        links: list[Link] = []
        if creator is not None and self._options.separate_traces:
            links.append(spans.link_to(creator, conventions.LINK_ENQUEUE))
        links += spans.links_of(task._waited_for, conventions.LINK_RESULT)
        links += spans.links_of(spans.after_of(task.headers), conventions.LINK_AFTER)
        return self._tracer.start_span(
            f"{conventions.PROCESS} {task.name}",
            parent,
            SpanKind.CONSUMER,
            self._attributes_of(task, conventions.PROCESS, conventions.PROCESS),
            links,
        )

    def _begin_batch(self, tasks: Sequence[TaskContext]) -> Span:
        attributes = _attributes(conventions.PROCESS, conventions.PROCESS)
        attributes |= {
            conventions.DESTINATION: tasks[0].queue.partition("/")[0],
            conventions.TASK: tasks[0].name,
            conventions.BATCH_COUNT: len(tasks),
            conventions.CLIENT_ID: WORKER.get(),
        }
        found = [creator for task in tasks[:_MOST_LINKED] if (creator := spans.creator_of(task.headers)) is not None]
        links = [spans.link_to(creator, conventions.LINK_ENQUEUE) for creator in found]
        return self._tracer.start_span(
            f"{conventions.PROCESS} {tasks[0].name}", Context(), SpanKind.CONSUMER, attributes, links
        )

    def _attributes_of(self, task: TaskContext, name: str, kind: str) -> Attributes:
        attributes = _attributes(name, kind)
        queue, _, partition = task.queue.partition("/")
        attributes |= {
            conventions.DESTINATION: queue,
            conventions.MESSAGE_ID: task.id,
            conventions.CLIENT_ID: WORKER.get(),
            conventions.TASK: task.name,
            conventions.ATTEMPT: task.attempt,
            conventions.DELIVERY: task.delivery,
        }
        if partition:
            attributes[conventions.PARTITION] = partition
        return attributes

    def _complete(self, span: Span, task: TaskContext, parent: Context, earlier: EarlierRun | None) -> None:
        """What costs more, for a run whose trace is kept: the link to the attempt before, and the span of the wait."""
        if earlier is not None and (about := spans.context_of(earlier.traceparent)) is not None:
            span.add_link(about, {conventions.LINK: conventions.LINK_ATTEMPT})
        if not self._options.wait_spans:
            return
        since = _ready_since(task, earlier)
        if since is None:
            return
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = trace.set_span_in_context(span, parent)  # a root has no other trace to be in
        now = time.time()
        wait = self._tracer.start_span(
            f"{conventions.WAIT} {task.name}",
            parent,
            SpanKind.CONSUMER,
            self._attributes_of(task, conventions.WAIT, conventions.RECEIVE),
            start_time=int(min(since, now) * 1e9),  # by the clock of Redis, and `now` by that of this machine
        )
        wait.end(int(now * 1e9))

    async def _run(self, span: Span, parent: Context, about: tuple[str, str, int], call_next: CallNext) -> Any:
        """Run it inside the span, which the caller ends."""
        own = span.get_span_context()
        if own.is_valid:
            tracing.RUN.set(tracing.TraceSpan(f"{own.trace_id:032x}", f"{own.span_id:016x}", own.trace_flags.sampled))
        token = contexts.attach(trace.set_span_in_context(span, parent))
        try:
            return await self._measured(about, call_next, span)
        finally:
            contexts.detach(token)

    async def _measured(self, about: tuple[str, str, int], call_next: CallNext, span: Span | None) -> Any:
        if span is None and not self.measures.on:
            return await call_next()
        began = time.perf_counter()
        error_type = ""
        try:
            value = await call_next()
            error_type = _safely(self._note_end, span or trace.INVALID_SPAN, None) or ""
            return value
        except BaseException as error:
            error_type = _safely(self._note_end, span or trace.INVALID_SPAN, error) or ""
            raise
        finally:
            if self.measures.on:
                _safely(self.measures.processed, *about, time.perf_counter() - began, error_type)

    def _note_end(self, span: Span, error: BaseException | None) -> str:
        """The end of a run, as the worker records it. Returns the type of the error; '' when the run has not failed.

        Where the worker has stopped the run, that decides: the handler may have caught its cancellation, and then have
        returned something or raised something else.
        """
        why = _interruption()
        if why == "timeout":
            spans.note_error(span, "timeout", "it ran longer than its timeout")
            return "timeout"
        if why is not None:
            span.set_attribute(conventions.OUTCOME, _OUTCOMES.get(why, "cancelled"))
            return ""
        if error is None:
            return ""
        kind = type(error)
        if issubclass(kind, RetryLater):
            span.set_attribute(conventions.OUTCOME, "retry_later")
            return ""
        if kind is ChildError and isinstance(error, ChildError):
            module, _, name = (error.classes or ["?"])[0].partition(":")
            error_type = name if module == "builtins" else f"{module}.{name}"
            self._note_text(span, error_type, str(error), error.traceback)
            return error_type
        error_type = spans.type_name(kind)
        self._note(span, error, error_type)
        return error_type

    def _note(self, span: Span, error: BaseException, error_type: str) -> None:
        if span.is_recording():
            self._note_text(span, error_type, describing.text_of(error), describing.trace(error))

    def _note_text(self, span: Span, error_type: str, message: str, stacktrace: str) -> None:
        if self._options.record_exceptions:
            spans.note_error(span, error_type, message, stacktrace)
        else:
            spans.note_error(span, error_type, error_type)


def _interruption() -> str | None:
    """Why this run was stopped; None when it was not, also for a cancellation that is the handler's own failure."""
    job: Any = getattr(CURRENT.get(), "__self__", None)
    why: str | None = getattr(job, "interruption", None)
    return "shutdown" if why is None and getattr(job, "cancelled_outside", False) else why


def _attributes(name: str, kind: str) -> Attributes:
    return {
        conventions.SYSTEM: conventions.TASKFLEET,
        conventions.OPERATION_NAME: name,
        conventions.OPERATION_TYPE: kind,
    }


def _note_items(span: Span, outcomes: Sequence[Any]) -> None:
    failed = sum(issubclass(type(outcome), BaseException) for outcome in outcomes)
    if failed:
        span.set_attribute(conventions.FAILED_ITEMS, failed)
        spans.note_error(span, "items", f"{failed} of {len(outcomes)} items failed")


def _ready_since(task: TaskContext, earlier: EarlierRun | None) -> float | None:
    """The Unix time at which the task could have run; None when that is not known."""
    if task.delivery > 1:
        return earlier.due_ms / 1000 if earlier is not None and earlier.due_ms else None
    enqueued = task.enqueued_at.timestamp()
    due = spans.text_of(task.headers, spans.DELAY_HEADER, 32)
    try:
        return max(enqueued, float(due[1:])) if due.startswith("@") else enqueued + max(0.0, float(due or 0))
    except ValueError:
        return enqueued


def _safely(call: Callable[..., R], *arguments: Any) -> R | None:
    """What the call returns; None, and a line in the log, when it raises: telling of a task must not fail it."""
    try:
        return call(*arguments)
    except Exception as error:
        logger.warning("a span or a metric was lost: %s", error)
        return None
