"""An application for workers in separate processes. Every execution is noted outside the queue's keys.

Its leases are longer than a busy machine stands still. A test that waits for their end brings it about
(`white_box.end_leases`).
"""

from __future__ import annotations

import asyncio
import time

import redis

from taskfleet import TaskQueue, current_task

queue = TaskQueue.from_config(queues=[{"name": "default", "lease_seconds": 30}])


async def _note(what: str) -> None:
    await queue.broker.client.redis.rpush(f"{queue.broker.prefix}:ledger", what)


@queue.task(max_retries=0)
async def note(n: int, seconds: float = 0.0) -> int:
    await _note(f"{n}:{current_task().attempt}:{current_task().delivery}")
    await asyncio.sleep(seconds)
    return n


@queue.task(max_retries=0)
async def hold(n: int) -> int:
    """Runs until the test has released it: `release`."""
    await _note(f"{n}:{current_task().attempt}:{current_task().delivery}")
    while not await queue.broker.client.redis.exists(f"{queue.broker.prefix}:released"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return n


async def release(shared: TaskQueue) -> None:
    await shared.broker.client.redis.set(f"{shared.broker.prefix}:released", 1, ex=300)


@queue.task(max_retries=0)
def block() -> str:
    """Blocks its thread until the test has released it: `release`."""
    with redis.Redis.from_url(queue.url) as client:
        while not client.exists(f"{queue.broker.prefix}:released"):
            time.sleep(0.02)
    return "done"


@queue.task
async def noop() -> None: ...


@queue.task(max_retries=0)
async def mirror(data: bytes, seconds: float = 0.0) -> bytes:
    await asyncio.sleep(seconds)
    return data
