"""Spans in the headers of a task, as W3C writes them. Whatever stands in the headers, reading them is safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState

from taskfleet import describing, showing, tracing
from taskfleet.integrations.opentelemetry import conventions

BAGGAGE_HEADER = "baggage"
AFTER_HEADER = "taskfleet-after"  # `traceparent`s of the enqueues that a task waits for, between blanks
DELAY_HEADER = "taskfleet-due"  # seconds after the enqueue, or `@` and a Unix time
MOST_LINKS = 32
_STATE_CHARACTERS = 512  # the most that W3C asks everyone to pass on
_BAGGAGE_CHARACTERS = 8192
_STACKTRACE_CHARACTERS = 16_000

_SAMPLED, _NOT_SAMPLED, _NO_STATE = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT), TraceState()
_baggage = W3CBaggagePropagator()


def headers_of(about: SpanContext) -> dict[str, str]:
    """The headers of tasks that are sent in a span; none for an invalid one."""
    if not about.is_valid:
        return {}
    sampled = about.trace_flags & TraceFlags.SAMPLED
    headers = {tracing.PARENT_HEADER: f"00-{about.trace_id:032x}-{about.span_id:016x}-{sampled:02x}"}
    if about.trace_state and len(state := about.trace_state.to_header()) <= _STATE_CHARACTERS:
        headers[tracing.STATE_HEADER] = state
    return headers


def inject_baggage(headers: dict[str, str]) -> None:
    """Write the baggage of the caller into the headers of a task."""
    _baggage.inject(headers)


def text_of(headers: object, name: str, most: int) -> str:
    """A header of at most so many characters; '' for anything else. Another program may have written it."""
    value = headers.get(name) if isinstance(headers, dict) else None
    return value if isinstance(value, str) and len(value) <= most else ""


def creator_of(headers: object) -> SpanContext | None:
    """The span in which a task was sent; None for headers without one, or with a damaged one."""
    known = tracing.parsed(text_of(headers, tracing.PARENT_HEADER, tracing.PARENT_LENGTH))
    if known is None:
        return None
    state = text_of(headers, tracing.STATE_HEADER, _STATE_CHARACTERS)
    return _context(known, TraceState.from_header([state]) if state else _NO_STATE)


class UnsampledSender(NonRecordingSpan):
    """The span of another process that is not sampled. Few ask for its ids, so they are parsed when somebody does."""

    is_unsampled = True  # tracing.exemplar

    def __init__(self, traceparent: str, state: str) -> None:
        self._traceparent = traceparent
        self._state = state
        self._known: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        if self._known is None:
            headers = {tracing.PARENT_HEADER: self._traceparent, tracing.STATE_HEADER: self._state}
            self._known = creator_of(headers) or INVALID_SPAN_CONTEXT
        return self._known

    def __repr__(self) -> str:
        return f"UnsampledSender({self._traceparent!r})"


def unsampled_sender(headers: object) -> UnsampledSender | None:
    """The span in which a task was sent, if it is not sampled; None for any other headers."""
    if not isinstance(headers, dict):
        return None
    traceparent = headers.get(tracing.PARENT_HEADER)
    if not isinstance(traceparent, str) or not tracing.is_unsampled(traceparent):
        return None
    state = text_of(headers, tracing.STATE_HEADER, _STATE_CHARACTERS) if len(headers) > 1 else ""
    return UnsampledSender(traceparent, state)


def context_of(traceparent: str) -> SpanContext | None:
    """The span of another process that a `traceparent` names."""
    found = tracing.parsed(traceparent)
    return None if found is None else _context(found, _NO_STATE)


def _context(span: tracing.TraceSpan, state: TraceState) -> SpanContext:
    flags = _SAMPLED if span.sampled else _NOT_SAMPLED
    return SpanContext(int(span.trace_id, 16), int(span.span_id, 16), True, flags, state)


def parent_context(creator: SpanContext | None, headers: object, *, baggage: bool) -> Context:
    """The context in which the spans of a run begin: nothing of the worker's own, and the sender's span."""
    context = Context()
    if baggage and (carried := text_of(headers, BAGGAGE_HEADER, _BAGGAGE_CHARACTERS)):
        context = _baggage.extract({BAGGAGE_HEADER: carried}, context)
    return context if creator is None else trace.set_span_in_context(NonRecordingSpan(creator), context)


def link_to(about: SpanContext, why: str) -> Link:
    return Link(about, {conventions.LINK: why})


def links_of(traceparents: Iterator[str] | tuple[str, ...] | list[str], why: str) -> list[Link]:
    """Links to spans of other processes; what names no span is left out."""
    found = [context_of(one) for one in traceparents] if traceparents else ()
    return [link_to(about, why) for about in found if about is not None][:MOST_LINKS]


def after_of(headers: object) -> list[str]:
    """The enqueues that a task waits for, of its header."""
    return text_of(headers, AFTER_HEADER, (tracing.PARENT_LENGTH + 1) * MOST_LINKS).split()


def note_error(span: Span, error_type: str, message: str, stacktrace: str = "") -> None:
    """The span has failed. With `stacktrace` it gets an event of the exception as well."""
    span.set_attribute(conventions.ERROR_TYPE, error_type)
    message = showing.shown(message, showing.MESSAGE_LIMIT)
    span.set_status(trace.Status(trace.StatusCode.ERROR, message))
    if stacktrace:
        attributes = {
            conventions.EXCEPTION_TYPE: error_type,
            conventions.EXCEPTION_MESSAGE: message,
            conventions.EXCEPTION_STACKTRACE: showing.lines(stacktrace.rstrip("\n"), _STACKTRACE_CHARACTERS),
        }
        span.add_event("exception", attributes)


def type_name(kind: type) -> str:
    """The name of an exception class with its module, as OpenTelemetry writes it."""
    module: Any = getattr(kind, "__module__", "")
    name = describing.name_of(kind)
    return name if module in ("builtins", "") or not isinstance(module, str) else showing.shown(f"{module}.{name}")
