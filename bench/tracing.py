"""What tracing costs: processor time per task of a worker and its producer, with and without `instrument()`.

`python -m bench.tracing` prints docs/how-to/tracing.md's figures. All in one process and one run, in rounds that take
turns, so that the load of the machine falls on all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from tests.support.redis_server import RedisServer

from taskfleet import Message, Middleware, SendNext, TaskQueue
from taskfleet.context import TaskContext
from taskfleet.integrations.opentelemetry import instrument
from taskfleet.middleware import CallNext

TASKS, ROUNDS = 4000, 5


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


class _Empty(Middleware):
    """What any middleware with these two hooks costs."""

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        await call_next()

    async def execute(self, task: TaskContext, call_next: CallNext) -> object:
        return await call_next()


def _provider(sampler: Sampler) -> TracerProvider:
    provider = TracerProvider(sampler=ParentBased(sampler))
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), max_queue_size=100_000))
    return provider


async def _microseconds(url: str, variant: str) -> float:
    """The processor time of one task, from its own `enqueue` to its recorded outcome."""
    queue = TaskQueue(url, middleware=[_Empty()] if variant == "an empty middleware" else [], result_ttl=0)
    if variant == "no SDK":
        instrument(queue, queue_figures=False)
    elif variant == "not sampled":
        instrument(queue, _provider(ALWAYS_OFF), queue_figures=False)
    elif variant == "sampled":
        instrument(queue, _provider(ALWAYS_ON), queue_figures=False)
    elif variant == "sampled, no waits":
        instrument(queue, _provider(ALWAYS_ON), queue_figures=False, wait_spans=False)
    ended = 0
    everything = asyncio.Event()

    @queue.task
    async def noop() -> None:
        nonlocal ended
        ended += 1
        if ended == TASKS:
            everything.set()

    async with queue:
        await queue.start_workers(1)
        began = time.process_time()
        for _ in range(TASKS // 100):
            await asyncio.gather(*(noop.enqueue() for _ in range(100)))
        await everything.wait()
        return (time.process_time() - began) / TASKS * 1e6


VARIANTS = ("not instrumented", "an empty middleware", "no SDK", "not sampled", "sampled, no waits", "sampled")


async def _main() -> None:
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with RedisServer() as server:
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                found[variant].append(await _microseconds(server.url, variant))
    base = statistics.median(found["not instrumented"])
    print(f"processor time of one task, enqueue and run, {TASKS} tasks, median of {ROUNDS} rounds")
    for variant, values in found.items():
        middle = statistics.median(values)
        print(f"{variant:20} {middle:6.0f} µs  x {middle / base:.2f}")


if __name__ == "__main__":
    asyncio.run(_main())
