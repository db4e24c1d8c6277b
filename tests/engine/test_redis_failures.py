"""When Redis misbehaves: what users see, and that work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from taskfleet import BrokerConnectionError, TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer


@pytest.fixture
async def durable() -> AsyncIterator[RedisServer]:
    """A server with an append-only file, which survives a restart."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def test_redis_down_at_enqueue_is_one_clear_line() -> None:
    server = RedisServer()
    queue = TaskQueue(f"redis://user:secret@127.0.0.1:{server.port}/0")

    @queue.task
    async def task() -> None: ...

    with pytest.raises(BrokerConnectionError) as caught:
        await task.enqueue()
    assert str(caught.value) == (
        f"cannot reach Redis at 127.0.0.1:{server.port}: connection refused; start it, or set REDIS_URL"
    )
    await queue.close()


async def test_work_goes_on_after_a_restart(durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(durable.url)
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.02)
        return n

    handles = await queue.enqueue_many([task.message(n) for n in range(200)])
    worker = await run_worker(queue, concurrency=4)
    await until(lambda: len(ran) > 10, "it works")
    durable.stop()
    await until(lambda: worker.failing_since is not None, "it noticed")
    durable.start()
    assert [await handle.result(timeout=30) for handle in handles] == list(range(200))


async def test_lost_scripts_and_killed_connections_are_not_noticed(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url)

    @queue.task
    async def task(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    await run_worker(queue, concurrency=4)
    other = TaskQueue(durable.url)
    redis = other.broker.client.redis
    handles = []
    for n in range(60):
        handles.append(await task.enqueue(n))
        if n % 10 == 3:
            await redis.script_flush()
        if n % 10 == 7:
            await redis.client_kill_filter(_type="normal", skipme=True)
            await redis.client_kill_filter(_type="pubsub")
    assert [await handle.result(timeout=20) for handle in handles] == list(range(60))
    await other.close()


async def test_lost_data_crashes_nothing(durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(durable.url)
    release = asyncio.Event()

    @queue.task
    async def hold() -> int:
        await release.wait()
        return 1

    worker = await run_worker(queue)
    await hold.enqueue()
    await until(lambda: worker.running, "it runs")
    await queue.broker.client.redis.flushall()
    release.set()
    await until(lambda: not worker.held, "the task is gone")
    assert await (await hold.enqueue()).result(timeout=10) == 1
