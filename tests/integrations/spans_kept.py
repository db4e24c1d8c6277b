"""Spans and metrics of a test, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from tests.engine.conftest import until


class Kept:
    """A tracer provider and a meter provider of their own, and what they have collected."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The ended spans, in the order of their ends."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    async def until(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """So many spans of that name."""
        await until(lambda: len(self.named(name)) >= count, f"{count} spans {name!r}; there are {self.names()}")
        return self.named(name)

    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def clear(self) -> None:
        self._exporter.clear()

    def points(self) -> dict[str, list[Any]]:
        """The data points of all metrics, by name. Not for the thread of a running loop."""
        data: MetricsData | None = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def links_of(span: ReadableSpan) -> list[tuple[str, tuple[int, int]]]:
    """(why, span) of each link."""
    return [
        (str((link.attributes or {})["taskfleet.link"]), (link.context.trace_id, link.context.span_id))
        for link in span.links
    ]


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
