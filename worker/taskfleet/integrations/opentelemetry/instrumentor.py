"""For `opentelemetry-instrument taskfleet worker …`: every `TaskQueue` that the program makes is instrumented."""

from __future__ import annotations

from typing import Any

from taskfleet.integrations.opentelemetry.instrumenting import instrument
from taskfleet.queue import TaskQueue


class TaskfleetInstrumentor:
    """The entry point of the group `opentelemetry_instrumentor`.

    The loader of OpenTelemetry calls these two methods. A base class of its package would make that a dependency.
    """

    def instrument(self, **options: Any) -> None:
        """Instrument each queue that is made from now on. `options`: those of `instrument`; others are ignored."""
        known = {name: options[name] for name in ("tracer_provider", "meter_provider") if name in options}
        TaskQueue.on_new = [lambda queue: instrument(queue, **known)]

    def uninstrument(self, **_options: Any) -> None:
        """Leave queues that are made from now on as they are."""
        TaskQueue.on_new = []
