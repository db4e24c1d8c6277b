"""An application whose tasks cannot be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time

from taskfleet import TaskQueue

queue = TaskQueue.from_config(queues=[{"name": "default", "lease_seconds": 30}])


@queue.task(timeout=None)
async def stubborn() -> None:
    await queue.broker.client.redis.set(f"{queue.broker.prefix}:stubborn", 1, ex=300)
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(0.05)


@queue.task(timeout=1, max_retries=0)
def in_c(seconds: float) -> None:
    time.sleep(seconds)


@queue.task
async def leaves_a_thread(seconds: float) -> str:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)
    return "done"


@queue.task
async def leaves_a_task() -> str:
    task = asyncio.create_task(stubborn())
    asyncio.get_running_loop().call_later(3600, task.cancel)
    return "done"


@queue.task
async def noop() -> str:
    return "done"
