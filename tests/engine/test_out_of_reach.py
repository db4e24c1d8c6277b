"""A worker that could not reach Redis for a while: its leases, the outcomes that it may still record, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import exceptions as redis_exceptions

from taskfleet import TaskCancelledError, current_task
from taskfleet.runtime.running import launcher
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, RunWorker, until
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
    await until(lambda: worker.health.connected, "it is connected")
    durable.stop()
    await until(lambda: worker.health.failing_since is not None, "a claim of nothing has failed")
    worker.drain()
    await asyncio.wait_for(running, 25)


async def test_a_worker_that_takes_over_its_own_task_records_the_newer_delivery(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(heartbeat=30.0)  # no renewal happens in the meantime
    release = asyncio.Event()
    deliveries: list[int] = []

    @queue.task
    async def hold() -> int:
        deliveries.append(current_task().delivery)
        await release.wait()
        return current_task().delivery

    @queue.task
    async def other() -> None: ...

    worker = await run_worker(queue)
    handle = await hold.enqueue()
    await until(lambda: deliveries == [1], "it runs")
    names = queue.broker.keys_of("default")
    await queue.broker.client.redis.zadd(names.lease, {handle.id: 1})  # as if its lease had ended long ago
    await other.enqueue()  # the next call takes the task over
    await until(lambda: deliveries == [1, 2], "it runs again")
    release.set()
    assert await handle.result(timeout=25) == 2
    await until(lambda: not worker.held and not worker.slots.running, "nothing is held")
    assert (await queue.queue_stats("default")).in_flight == 0


async def test_a_task_that_is_cancelled_before_an_unheard_claim_is_handed_back_has_an_outcome(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    @queue.task
    async def never() -> None: ...

    handle = await never.enqueue()
    step, lost = queue.broker.step, 0

    async def losing(*args: Any) -> Any:
        nonlocal lost
        reply = await step(*args)
        if reply.claims and not lost:
            lost += 1
            assert await handle.cancel()
            raise redis_exceptions.ConnectionError("the reply is lost")
        return reply

    monkeypatch.setattr(queue.broker, "step", losing)
    await run_worker(queue)
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=25)
    assert lost == 1


async def test_a_task_that_is_cancelled_before_a_drain_hands_it_back_has_an_outcome(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    @queue.task
    async def never() -> None: ...

    handle = await never.enqueue()
    worker = Worker(queue, name="drained")
    step = queue.broker.step

    async def draining(*args: Any) -> Any:
        reply = await step(*args)
        if reply.claims:
            assert await handle.cancel()
            worker.drain()  # the task is claimed and will not be started
        return reply

    monkeypatch.setattr(queue.broker, "step", draining)
    await worker.run()
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=25)


async def test_a_task_that_is_interrupted_before_its_first_step_has_an_outcome(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_EAGER", False)  # as in Python before 3.12
    queue = make_queue()
    ran = False

    @queue.task
    async def never() -> None:
        nonlocal ran
        ran = True

    worker = await run_worker(queue)
    start = worker.execution.start

    def interrupting(*claim: Any) -> None:
        start(*claim)
        worker.interrupts.interrupt([claim[1]], "cancel")

    monkeypatch.setattr(worker.execution, "start", interrupting)
    handle = await never.enqueue()
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=25)
    assert not ran
    assert not worker.slots.running
