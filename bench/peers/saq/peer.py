"""SAQ as a peer of the bench."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import uvloop
from saq import Queue, Worker

from bench.protocol import AsyncPeer, echo_task, serve, sleep_task, tally

# As many operations at once as producers and slots ask for; the default is 20.
queue: Any = Queue.from_url(os.environ["REDIS_URL"], max_concurrent_ops=100)
POLL_SECONDS = 0.001  # it polls for results; its default is 0.5

# Results off, and no time limit.
OPTIONS = {"ttl": -1, "timeout": 0}


async def noop(context: Any, *, x: float) -> None:
    tally.note(x)


async def sleep(context: Any, *, x: float) -> None:
    await sleep_task(x)


async def echo(context: Any, *, x: float) -> float:
    return echo_task(x)


class Bench(Worker[Any]):
    SIGNALS = ()  # type: ignore[assignment] # the process is the bench's


class Saq(AsyncPeer):
    version = installed("saq")
    runtime = f"{AsyncPeer.runtime}, uvloop"

    async def open(self, role: str) -> None:
        await queue.connect()

    async def close(self) -> None:
        await queue.disconnect()

    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        def send(x: float) -> Awaitable[Any]:
            return queue.enqueue(task, x=x, **OPTIONS)  # type: ignore[no-any-return]

        return send

    async def call(self, at: float) -> Any:
        return await queue.apply("echo", x=at, poll_interval=POLL_SECONDS)

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        worker = Bench(queue, functions=[noop, sleep, echo], concurrency=slots)
        running = asyncio.create_task(worker.start())
        await finished.wait()
        worker.event.set()
        await running


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(serve(Saq(), sys.argv[1]))
