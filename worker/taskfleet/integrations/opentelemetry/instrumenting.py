"""`instrument(queue)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet.integrations.opentelemetry import queue_figures as figures
from taskfleet.integrations.opentelemetry.middleware import OpenTelemetryMiddleware, SpanOptions

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from taskfleet.queue import TaskQueue


def instrument(
    queue: TaskQueue,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    *,
    wait_spans: bool = True,
    separate_traces: bool = False,
    baggage: bool = False,
    record_exceptions: bool = True,
    queue_figures: bool = True,
) -> None:
    """Make spans and metrics of every enqueue and every run of a queue, in producers and workers alike.

    Args:
        queue: call it once, where the queue is made; a second call has no effect.
        tracer_provider, meter_provider: by default those of OpenTelemetry's API, also when they are set later.
        wait_spans: a span from the time at which a task could run to its run.
        separate_traces: each run begins a trace of its own, with a link to the enqueue; by default it is in the trace
            of the enqueue.
        baggage: let the baggage of the caller travel with the task. Whoever reads Redis can read it.
        record_exceptions: messages and tracebacks of exceptions in the spans; without it, only their types.
        queue_figures: gauges of all queues in this Redis, which is read whenever metrics are collected.

    Errors: `ConfigurationError` once a worker of this queue has started.
    """
    stack = queue.application.middleware
    if any(isinstance(each, OpenTelemetryMiddleware) for each in stack.all):
        return
    options = SpanOptions(wait_spans, separate_traces, baggage, record_exceptions)
    middleware = OpenTelemetryMiddleware(
        queue.sessions, queue.application.seal, tracer_provider, meter_provider, options
    )
    stack.add(middleware, outermost=True)
    if queue_figures:
        figures.observe(queue, meter_provider, middleware.measures.meter)
