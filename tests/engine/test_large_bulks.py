"""Bulks of calls in a real Redis: sealed, very many, and large."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker
from tests.engine.test_sealing import ALL, everything_stored


async def script_calls(queue: TaskQueue) -> int:
    """How often Redis has run a script."""
    broker: Any = queue.broker
    stats = await broker.client.redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
async def test_calls_are_sealed(make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]) -> None:
    queue = make_queue(**options)

    @queue.task
    async def twice(text: str) -> str:
        return text * 2

    handles = await twice.enqueue_many([(f"a plain text {n} " * 20,) for n in range(50)])
    stored = await everything_stored(queue)
    if "encryption_keys" in options:
        assert b"a plain text" not in stored
    await run_worker(queue)
    found = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
    assert found == [f"a plain text {n} " * 40 for n in range(50)]


async def test_very_many_calls_take_bounded_memory_and_calls_of_a_thousand(queue: TaskQueue) -> None:
    @queue.task
    async def note(n: int) -> None: ...

    await note.enqueue(0)
    calls = [(n,) for n in range(200_000)]
    before = await script_calls(queue)
    tracemalloc.start()
    handles = await note.enqueue_many(calls)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(handles) == 200_000
    assert await script_calls(queue) - before == 200
    assert (await queue.queue_stats("default")).ready == 200_001
    # Of each: an id, an envelope, and the tuple of both. A message and a handle would be several times that.
    assert peak < 350 * 200_000
    await queue.purge("default")


async def test_a_large_argument_of_many_calls_is_not_in_memory_many_times(queue: TaskQueue) -> None:
    @queue.task
    async def store(data: bytes) -> None: ...

    data = b"x" * 500_000
    tracemalloc.start()
    await store.enqueue_many([(data,)] * 200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (await queue.queue_stats("default")).ready == 200
    assert peak < 80_000_000  # of 100,000,000
    await queue.purge("default")
