"""Bulk enqueues, and full queues."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import BulkEnqueueError, PayloadTooLargeError, QueueFullError, TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until


async def test_bulk_enqueue_keeps_order(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @queue.task
    async def note(n: int) -> None:
        ran.append(n)

    handles = await queue.enqueue_many([note.message(n) for n in range(2500)])
    assert len({handle.id for handle in handles}) == 2500
    assert (await queue.queue_stats("default")).ready == 2500
    await run_worker(queue, concurrency=1)
    await until(lambda: len(ran) == 2500, "all have run")
    assert ran == list(range(2500))


async def test_bulk_enqueue_reports_each_bad_message_and_sends_nothing_of_their_queue(queue: TaskQueue) -> None:
    @queue.task
    async def default(n: int) -> None: ...

    @queue.task(queue="other")
    async def other(n: int) -> None: ...

    messages = [default.message(1), default.message("x"), other.message(2), default.message(b"y")]  # type: ignore[arg-type]
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many(messages)
    assert [index for index, _ in caught.value.errors] == [1, 3]
    assert (await queue.queue_stats("default")).ready == 0
    assert (await queue.queue_stats("other")).ready == 1


async def test_a_message_whose_call_was_cancelled_before_it_left_is_not_sent(queue: TaskQueue) -> None:
    @queue.task
    async def note() -> None: ...

    calls = [asyncio.ensure_future(note.enqueue()) for _ in range(4)]
    await asyncio.sleep(0)  # the first leaves, and the others gather for the next call to Redis
    calls[2].cancel()
    await asyncio.wait(calls)
    assert (await queue.queue_stats("default")).ready == sum(not call.cancelled() for call in calls)


async def test_a_full_queue_refuses_and_says_so(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "small", "max_length": 2}])

    @queue.task(queue="small")
    async def task() -> None: ...

    outcomes = await asyncio.gather(*(task.enqueue() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, QueueFullError) for outcome in outcomes) == 3
    with pytest.raises(QueueFullError, match="'small' is full: 2 of at most 2"):
        await task.enqueue()
    assert (await queue.queue_stats("small")).ready == 2


async def test_a_call_that_brings_too_many_says_how_many_there_is_room_for(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "small", "max_length": 5}])

    @queue.task(queue="small")
    async def task(n: int) -> None: ...

    with pytest.raises(QueueFullError, match="'small' has room for 5 more, and not for the whole call: 0 of at most 5"):
        await queue.enqueue_many([task.message(n) for n in range(6)])
    await task.enqueue(1)
    with pytest.raises(QueueFullError, match="has room for 4 more"):
        await queue.enqueue_many([task.message(n) for n in range(5)])
    await queue.enqueue_many([task.message(n) for n in range(4)])
    with pytest.raises(QueueFullError, match="'small' is full: 5 of at most 5"):
        await task.enqueue(1)


async def test_a_payload_over_the_limit_is_refused(make_queue: MakeQueue) -> None:
    queue = make_queue(max_payload_bytes=1000)

    @queue.task
    async def task(data: bytes) -> None: ...

    with pytest.raises(PayloadTooLargeError, match="max_payload_bytes=1000"):
        await task.enqueue(b"x" * 1000)
