"""Taskfleet as a peer of the bench: `peer.py producer|worker` speaks JSON lines (bench/README.md)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvloop

from bench.protocol import RESULTS, AsyncPeer, Reply, echo_task, serve, sleep_task, tally, traced_task
from taskfleet import QueueOptions, TaskQueue, __version__
from taskfleet.process.worker_process import settle_memory
from taskfleet.runtime.worker import Worker

# Results off: a finished task leaves nothing behind.
queue = TaskQueue(
    os.environ["REDIS_URL"],
    queues=[QueueOptions("default", partitions=int(os.environ.get("BENCH_PARTITIONS", "1")))],
    result_ttl=3600 if RESULTS else 0,
)


@queue.task
async def noop(at: float) -> None:
    tally.note(at)


@queue.task
async def sleep(seconds: float) -> None:
    await sleep_task(seconds)


@queue.task
async def echo(at: float) -> float:
    return echo_task(at)


@queue.task
async def traced(index: float) -> None:
    await traced_task(index)


TASKS = {"noop": noop, "sleep": sleep, "traced": traced}


class Taskfleet(AsyncPeer):
    version = __version__
    runtime = f"{AsyncPeer.runtime}, uvloop"

    async def open(self, role: str) -> None:
        if role == "worker":
            settle_memory()  # as `taskfleet worker` does

    async def close(self) -> None:
        await queue.close()

    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        return TASKS[task].enqueue

    async def send_many(self, task: str, arguments: Sequence[float]) -> None:
        await TASKS[task].enqueue_many([(argument,) for argument in arguments])

    async def send_later(self, at: float, seconds: float) -> None:
        await noop.options(delay=max(0.0, seconds)).enqueue(at)

    async def send_keyed(self, key: str, arguments: Sequence[float]) -> None:
        # Any: the option is looked for by the bench, which leaves the scenario out when it is not there.
        options: Any = noop.options
        message = options(fair_key=key).message if key else noop.message
        await queue.enqueue_many([message(argument) for argument in arguments])

    async def call(self, at: float) -> float:
        return await (await echo.enqueue(at)).result()

    async def counts(self) -> Reply:
        stats = await queue.queue_stats("default")
        lease = queue.application.options_of("default").lease_seconds
        return {"ready": stats.ready, "in_flight": stats.in_flight, "lease_seconds": lease}

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        """The worker of `taskfleet worker`, in this process so that it can be measured from within."""
        worker = Worker(queue, queues=["default"], concurrency=slots)
        running = asyncio.create_task(worker.run())
        await finished.wait()
        worker.drain()
        await running


if __name__ == "__main__":
    uvloop.run(serve(Taskfleet(), sys.argv[1]))
