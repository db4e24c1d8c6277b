"""The trace of a run, from a worker's port to what a Prometheus answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from taskfleet import TaskQueue
from taskfleet.integrations.opentelemetry import instrument
from taskfleet.process.metrics import WorkerCollector
from taskfleet.process.probes import ProbeServer
from taskfleet.runtime.worker import Worker
from tests.prometheus.server import PrometheusServer
from tests.support.process_node_fleet import until


def test_prometheus_keeps_the_trace_of_a_run(prometheus: Callable[..., PrometheusServer]) -> None:
    tracers = TracerProvider(shutdown_on_exit=False)
    ended: list[str] = []

    async def work() -> WorkerCollector:
        async with TaskQueue("memory://exemplars") as queue:
            instrument(queue, tracers)

            @queue.task
            async def small() -> None: ...

            worker = Worker(queue)
            running = asyncio.create_task(worker.run())
            with tracers.get_tracer("app").start_as_current_span("request") as request:
                handle = await small.enqueue()
            await handle.result(timeout=30)
            ended.append(f"{request.get_span_context().trace_id:032x}")
            worker.drain()
            await running
            return WorkerCollector.of(worker)

    collector = asyncio.run(work())
    server = ProbeServer(collector._health, collector, "127.0.0.1", 0)
    server.start()
    try:
        scraper = prometheus([{"job_name": "workers", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}])

        def kept() -> list[Any]:
            now = time.time()
            query = "taskfleet_task_run_seconds_bucket"
            found: list[Any] = scraper.get("query_exemplars", query=query, start=str(now - 600), end=str(now + 60))
            return found

        (series,) = until(kept, "the exemplar is kept")
        assert series["seriesLabels"]["task"] == "small"
        (exemplar,) = series["exemplars"]
        assert exemplar["labels"]["trace_id"] == ended[0]
    finally:
        server.close()
        tracers.shutdown()
