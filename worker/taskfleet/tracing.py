"""The trace that code runs in, by W3C's `traceparent`; known without OpenTelemetry, which is never imported here.

A trace exists only where the application has loaded OpenTelemetry. So this module asks what is loaded, and costs a look
into a dict where nothing is. `docs/how-to/tracing.md`.
"""

from __future__ import annotations

import contextvars
import re
import sys
from typing import Any, NamedTuple

PARENT_HEADER = "traceparent"
STATE_HEADER = "tracestate"
PARENT_LENGTH = 55  # characters of version 00

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_UNSAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceSpan(NamedTuple):
    """A span by its ids, in hexadecimal digits as W3C writes them."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


# The span of the run in whose context this code is. It stays known after the span has ended, when the worker makes the
# outcome, and in the child of `executor="process"`, which may have no OpenTelemetry.
RUN: contextvars.ContextVar[TraceSpan | None] = contextvars.ContextVar("taskfleet_run_span", default=None)


def parsed(traceparent: object) -> TraceSpan | None:
    """The span that a `traceparent` names; None for any other value, of whatever type and size."""
    # Later versions of the format may be longer; none exists, and a long text is no reason to search it.
    if type(traceparent) is not str or len(traceparent) != PARENT_LENGTH:
        return None
    found = _PARENT.fullmatch(traceparent)
    if found is None or found[1] == _NO_TRACE or found[2] == _NO_SPAN:
        return None
    return TraceSpan(found[1], found[2], bool(int(found[3], 16) & 1))


def is_unsampled(traceparent: object) -> bool:
    """Whether it is a `traceparent` of a span that is not sampled: one that `parsed` reads, at half the cost."""
    return (
        type(traceparent) is str and len(traceparent) == PARENT_LENGTH and _UNSAMPLED.fullmatch(traceparent) is not None
    )


def current() -> TraceSpan | None:
    """The span that is active here: that of OpenTelemetry, else that of the run; None without either."""
    return _of(_active_span())


def _active_span() -> Any:
    """The active span of OpenTelemetry; None where it is not loaded."""
    api: Any = sys.modules.get("opentelemetry.trace")
    # A module that is being imported lacks its functions still.
    get_current_span = getattr(api, "get_current_span", None)
    return get_current_span() if get_current_span is not None else None


def _of(active: Any) -> TraceSpan | None:
    """The ids of the active span of OpenTelemetry, if it has any; else the span of the run."""
    if active is not None:
        about: Any = active.get_span_context()
        if about.is_valid:
            return TraceSpan(f"{about.trace_id:032x}", f"{about.span_id:016x}", bool(about.trace_flags & 1))
    return RUN.get()


def exemplar() -> dict[str, str] | None:
    """The labels of an exemplar: trace_id and span_id of the sampled span that is active here; None without one.

    Also after the span of a run has ended, where the worker records the outcome. 70 characters, of the 128 that
    OpenMetrics allows.
    """
    # Asked at each end of a run: where nothing is sampled, no id is read.
    active = _active_span() if "opentelemetry.trace" in sys.modules else None
    if active is not None and getattr(active, "is_unsampled", False):
        return None
    span = _of(active) if active is not None else RUN.get()
    return {"trace_id": span.trace_id, "span_id": span.span_id} if span is not None and span.sampled else None


def adopt(traceparent: str) -> None:
    """Continue, in this context, the trace of another process: `traceparent` is that of its active span, or ''."""
    span = parsed(traceparent)
    RUN.set(span)
    api: Any = sys.modules.get("opentelemetry.trace")
    if span is None or api is None:
        return
    # Spans that the application starts here become children of it.
    about = api.SpanContext(int(span.trace_id, 16), int(span.span_id, 16), True, api.TraceFlags(int(span.sampled)))
    sys.modules["opentelemetry.context"].attach(api.set_span_in_context(api.NonRecordingSpan(about)))
