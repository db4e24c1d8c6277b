"""An application that sends its spans and metrics to a collector, as docs/how-to/tracing.md shows."""

from __future__ import annotations

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from taskfleet import TaskQueue
from taskfleet.integrations.opentelemetry import instrument

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))

queue = TaskQueue.from_config()
instrument(queue)


@queue.task
async def double(n: int) -> int:
    return 2 * n


@queue.task(max_retries=0)
async def fails() -> None:
    raise ValueError("no luck")
