"""taskiq with its Redis stream broker as a peer of the bench."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import uvloop
from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.protocol import RESULTS, AsyncPeer, echo_task, serve, sleep_task, tally

POLL_SECONDS = 0.001  # it polls for results; its default is 0.2

# No result backend, unless results are asked for. The group begins at 0, so that tasks sent before the first worker are
# not skipped.
broker = RedisStreamBroker(os.environ["REDIS_URL"], consumer_id="0")
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["REDIS_URL"]))


@broker.task
async def noop(at: float) -> None:
    tally.note(at)


@broker.task
async def sleep(seconds: float) -> None:
    await sleep_task(seconds)


@broker.task
async def echo(at: float) -> float:
    return echo_task(at)


class Taskiq(AsyncPeer):
    version = installed("taskiq")
    runtime = f"{AsyncPeer.runtime}, uvloop, taskiq-redis {installed('taskiq-redis')}"

    async def open(self, role: str) -> None:
        broker.is_worker_process = role == "worker"
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        return {"noop": noop, "sleep": sleep}[task].kiq

    async def call(self, at: float) -> Any:
        task = await echo.kiq(at)
        return (await task.wait_result(check_interval=POLL_SECONDS)).return_value

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        # As `taskiq worker --no-parse --max-async-tasks 100`: arguments are not validated.
        receiver = Receiver(broker, validate_params=False, max_async_tasks=slots, run_startup=False)
        receiving = asyncio.create_task(receiver.listen(finished))
        await finished.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(serve(Taskiq(), sys.argv[1]))
