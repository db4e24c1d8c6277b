"""Claims that arrive while a worker ends go back to their queue: another worker need not wait for their leases."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import TaskQueue
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import until


@pytest.fixture
def slow_signals(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when signals of workflows are on their way, which takes a second."""
    started = asyncio.Event()

    async def relay(self: RedisBroker, partition: Partition) -> None:
        started.set()
        await asyncio.sleep(1)

    monkeypatch.setattr(RedisBroker, "relay", relay)
    return started


async def test_a_claim_that_arrives_while_signals_are_delivered_is_returned(
    queue: TaskQueue, slow_signals: asyncio.Event
) -> None:
    ran: list[int] = []

    @queue.task
    async def note(x: int) -> None:
        ran.append(x)

    worker = Worker(queue, concurrency=4)
    running = asyncio.create_task(worker.run())
    await until(lambda: worker.listeners.claiming, "a claim has been sent along")
    worker.relays.start(Partition("default"))
    await slow_signals.wait()
    worker.drain()
    await asyncio.sleep(0.1)
    handle = await note.enqueue(1)
    await asyncio.wait_for(running, 60)
    assert await handle.status() == "ready"
    assert not worker.held
    assert ran == []
