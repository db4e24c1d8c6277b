"""A worker that Redis has been out of reach for: what it holds, what it may still record, and that it can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, until
from tests.support.redis_server import RedisServer


@pytest.fixture
async def durable() -> AsyncIterator[RedisServer]:
    """A server with an append-only file, which survives a restart."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def test_a_drain_that_begins_while_redis_is_away_ends(durable: RedisServer, make_queue: MakeQueue) -> None:
    queue = make_queue(durable.url)

    @queue.task
    async def task() -> None: ...

    worker = Worker(queue, name="drained")
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.connected, "it is connected")
    durable.stop()
    await until(lambda: worker.failing_since is not None, "a claim of nothing has failed")
    worker.drain()
    await asyncio.wait_for(running, 20)
