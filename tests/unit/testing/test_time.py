"""Time that a test lets pass: rate limits, schedules, batches, timeouts, leases and everything else with a clock."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator

import pytest

from taskfleet import BatchItem, RateLimit, TaskQueue, current_task
from taskfleet.testing import InlineWorker, InMemoryBroker

HOUR = 3600


def standing_still() -> float:
    """A clock that only the tests move, a quarter past an hour: no hour or day begins while the machine stalls."""
    return 1_000_000.0


@pytest.fixture
async def queue() -> AsyncIterator[TaskQueue]:
    async with TaskQueue(broker=InMemoryBroker(clock=standing_still)) as queue:
        yield queue


async def test_the_rate_limit_of_a_queue_takes_virtual_time() -> None:
    limit = {"name": "default", "rate_limit": RateLimit(1 / HOUR, 2)}
    queue = TaskQueue(broker=InMemoryBroker(clock=standing_still), queues=[limit])
    at: list[float] = []
    worker = InlineWorker(queue)

    @queue.task
    async def task() -> None:
        at.append((worker.now - began).total_seconds())

    began, real = worker.now, time.monotonic()
    await queue.enqueue_many([task.message() for _ in range(5)])
    assert await worker.run_until_idle() == 5
    assert [round(seconds / HOUR, 1) for seconds in at] == [0, 0, 1, 2, 3]
    assert time.monotonic() - real < 30


async def test_future_ticks_are_no_work_and_fire_when_time_passes(queue: TaskQueue) -> None:
    at: list[dt.datetime] = []
    worker = InlineWorker(queue)

    @queue.task
    async def tick() -> None:
        at.append(worker.now)

    await queue.add_schedule(name="hourly", schedule="0 * * * *", task=tick)
    assert await worker.run_until_idle(through_delays=True) == 0
    assert await worker.run_for(5 * HOUR) == 5
    assert [moment.minute for moment in at] == [0] * 5
    worker.advance(5 * HOUR)  # a time in which nothing ran
    assert await worker.run_until_idle() == 1
    await tick.options(delay=3 * HOUR).enqueue()
    assert await worker.run_until_idle(through_delays=True) == 4  # ticks on the way to the delayed task
    until = worker.now + dt.timedelta(hours=2)
    assert await worker.run_until(until) == 2
    assert until <= worker.now < until + dt.timedelta(seconds=30)


async def test_a_tick_beyond_its_starting_deadline_is_dropped(queue: TaskQueue) -> None:
    @queue.task
    async def tick() -> None: ...

    worker = InlineWorker(queue)
    await queue.add_schedule(name="daily", schedule="0 0 * * *", task=tick, starting_deadline_seconds=60)
    midnight = worker.now.replace(hour=0, minute=0, second=0) + dt.timedelta(days=1)
    worker.advance((midnight - worker.now).total_seconds() + 2 * HOUR)
    assert await worker.run_until_idle() == 0
    assert await worker.run_for(24 * HOUR) == 1


async def test_a_batch_does_not_wait_for_its_window() -> None:
    queue = TaskQueue(broker=InMemoryBroker())  # a part of the window may pass for real
    sizes: list[int] = []

    @queue.batch_task(size=10, window_ms=60_000)
    async def note(items: list[BatchItem]) -> list[None]:
        sizes.append(len(items))
        return [None] * len(items)

    worker = InlineWorker(queue)
    began = worker.now
    await queue.enqueue_many([note.message(n) for n in range(13)])
    assert await worker.run_until_idle(timeout=30) == 13
    assert sizes == [10, 3]
    assert (worker.now - began).total_seconds() >= 59


async def test_time_that_passes_times_a_running_task_out(queue: TaskQueue) -> None:
    started = asyncio.Event()

    @queue.task(timeout=300, max_retries=0)
    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    handle = await hang.enqueue()
    worker = InlineWorker(queue)
    running = asyncio.create_task(worker.run_until_idle())
    await started.wait()
    worker.advance(290)
    assert await handle.status() == "running"
    worker.advance(11)
    assert await running == 1
    (failure,) = worker.failures()
    assert "it ran longer than its timeout of 300 s" in str(failure)


async def test_what_waits_too_long_expires_and_results_do_too(queue: TaskQueue) -> None:
    @queue.task(result_ttl=60)
    async def task() -> int:
        return 1

    worker = InlineWorker(queue)
    late = await task.options(expires=100).enqueue()
    worker.advance(101)
    await worker.run_until_idle()
    assert await late.status() == "expired"
    done = await task.enqueue()
    await worker.run_until_idle()
    assert await done.status() == "succeeded"
    worker.advance(61)
    assert await done.status() == "unknown"


async def test_a_debounced_task_runs_once_when_it_is_quiet(queue: TaskQueue) -> None:
    seen: list[int] = []

    @queue.task
    async def index(n: int) -> None:
        seen.append(n)

    worker = InlineWorker(queue)
    for n in range(3):
        await index.options(delay=60, unique_key="page", unique_mode="debounce").enqueue(n)
        worker.advance(50)
        await worker.run_until_idle()
    assert seen == []
    worker.advance(10)
    await worker.run_until_idle()
    assert seen == [2]


async def test_the_lease_of_a_crashed_worker_runs_out(queue: TaskQueue) -> None:
    @queue.task
    async def charge() -> int:
        return current_task().delivery

    worker = InlineWorker(queue)
    handle = await charge.enqueue()
    assert (worker.crash(), worker.crash()) == (1, 0)
    assert await handle.status() == "running"
    worker.advance(60)
    assert await worker.run_until_idle() == 1
    assert await handle.result(timeout=30) == 2
    lost = await charge.enqueue()
    for _ in range(10):
        worker.crash()
        worker.advance(60)
    await worker.run_until_idle()
    assert await lost.status() == "dead"


async def test_a_task_that_waits_for_real_keeps_the_time_from_passing(queue: TaskQueue) -> None:
    order: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await asyncio.sleep(0.1)
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)

    @queue.task
    async def call() -> None:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"?\n")
        order.append((await reader.readline()).decode().strip())
        writer.close()

    @queue.task(queue="other")
    async def later() -> None:
        order.append("later")

    worker = InlineWorker(queue)
    await later.options(delay=HOUR).enqueue()
    await call.enqueue()
    assert await worker.run_until_idle(through_delays=True) == 2
    assert order == ["hello", "later"]
    server.close()


async def test_what_is_left_says_what_it_waits_for() -> None:
    queue = TaskQueue(broker=InMemoryBroker(clock=standing_still))

    @queue.task
    async def task() -> None: ...

    worker = InlineWorker(queue)
    await task.options(delay=HOUR).enqueue()
    await task.options(queue="held").enqueue()
    await task.options(queue="held").enqueue()
    await queue.pause("held")
    await worker.run_until_idle()
    assert worker.waiting() == ["2 task in held (its queue is paused)", "1 task in default (due in 3600 s)"]
