"""arq as a peer of the bench."""

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
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker

from bench.protocol import RESULTS, AsyncPeer, echo_task, serve, sleep_task, tally

POLL_SECONDS = 0.001  # arq polls; with its default of 0.5 s it would do little but wait


async def noop(context: Any, at: float) -> None:
    tally.note(at)


async def sleep(context: Any, seconds: float) -> None:
    await sleep_task(seconds)


async def echo(context: Any, at: float) -> float:
    return echo_task(at)


class Arq(AsyncPeer):
    version = installed("arq")
    runtime = f"{AsyncPeer.runtime}, uvloop"
    redis: ArqRedis

    async def open(self, role: str) -> None:
        self.settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
        self.redis = await create_pool(self.settings)

    async def close(self) -> None:
        await self.redis.aclose()

    def sender(self, task: str) -> Callable[[float], Awaitable[Any]]:
        def send(argument: float) -> Awaitable[Any]:
            return self.redis.enqueue_job(task, argument)

        return send

    async def send_later(self, at: float, seconds: float) -> None:
        await self.redis.enqueue_job("noop", at, _defer_by=seconds)

    async def call(self, at: float) -> Any:
        job = await self.redis.enqueue_job("echo", at)
        assert job is not None
        return await job.result(poll_delay=POLL_SECONDS)

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        worker = Worker(
            [noop, sleep, echo],
            redis_settings=self.settings,
            handle_signals=False,
            max_jobs=slots,
            keep_result=3600 if RESULTS else 0,
            log_results=False,
            poll_delay=POLL_SECONDS,
        )
        running = asyncio.create_task(worker.async_run())
        await finished.wait()
        worker.allow_pick_jobs = False
        await asyncio.gather(*worker.tasks.values())
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        with contextlib.suppress(asyncio.CancelledError):
            await worker.close()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(serve(Arq(), sys.argv[1]))
