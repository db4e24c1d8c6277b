"""streaq as a peer of the bench."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from importlib.metadata import version as installed
from typing import Any

import uvloop
from streaq import Worker

from bench.protocol import AsyncPeer, echo_task, serve, sleep_task, tally

_LAST_ACKS = 0.3  # seconds


async def noop(at: float) -> None:
    tally.note(at)


async def sleep(seconds: float) -> None:
    await sleep_task(seconds)


async def echo(at: float) -> float:
    return echo_task(at)


def new_worker(slots: int) -> tuple[Worker[Any], dict[str, Any]]:
    worker: Worker[Any] = Worker(os.environ["REDIS_URL"], concurrency=slots, handle_signals=False)
    # Results off, and nothing logged per task.
    decorate = worker.task(ttl=0, silent=True)
    kept = worker.task(silent=True)(echo)
    return worker, {"noop": decorate(noop), "sleep": decorate(sleep), "echo": kept}


class StreaqPeer(AsyncPeer):
    version = installed("streaq")
    runtime = f"{AsyncPeer.runtime}, uvloop"

    stack: contextlib.AsyncExitStack | None = None

    async def open(self, role: str) -> None:
        if role == "producer":
            self.stack = contextlib.AsyncExitStack()
            self.worker, self.tasks = new_worker(1)
            await self.stack.enter_async_context(self.worker)

    async def close(self) -> None:
        if self.stack is not None:
            await self.stack.aclose()

    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        return self.tasks[task].enqueue  # type: ignore[no-any-return]

    async def send_many(self, task: str, arguments: Sequence[float]) -> None:
        enqueue = self.tasks[task].enqueue
        await self.worker.enqueue_many([enqueue(argument) for argument in arguments])

    async def send_later(self, at: float, seconds: float) -> None:
        await self.tasks["noop"].enqueue(at).start(delay=timedelta(seconds=max(0.001, seconds)))

    async def call(self, at: float) -> Any:
        task = await self.tasks["echo"].enqueue(at)
        return (await task.result()).result

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        worker, _ = new_worker(slots)
        running = asyncio.create_task(worker.run_async())
        await finished.wait()
        await asyncio.sleep(_LAST_ACKS)  # a cancellation would also cancel outcomes that it still records
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(serve(StreaqPeer(), sys.argv[1]))
