"""Limits in bytes: payloads larger than a worker takes, and results larger than a reader takes."""

from __future__ import annotations

import pytest

from taskfleet import BulkEnqueueError, PayloadTooLargeError, QueueFullError, TaskExecutionError
from tests.engine.conftest import MakeQueue, RunWorker, until

MB = 1_000_000


async def size(data: bytes) -> int:
    return len(data)


async def test_a_payload_beyond_the_workers_limit_is_a_dead_letter_for_one_with_a_higher(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    small, large = make_queue(max_payload_bytes=100_000), make_queue()
    small.task(max_retries=0)(size)
    handle = await large.task(max_retries=0)(size).enqueue(bytes(200_000))
    worker = await run_worker(small)
    with pytest.raises(TaskExecutionError, match="more than max_payload_bytes=100000 of this worker"):
        await handle.result(timeout=60)
    (letter,) = await large.dead_letters("default")
    assert (letter.task, letter.state, letter.reason) == ("size", "dead", "too_large")
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    await run_worker(large)
    assert await large.requeue_dead("default") == 1
    assert await handle.result(timeout=60) == 200_000


async def test_a_large_bulk_is_all_or_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "max_length": 60}])
    work = queue.task(size)
    data = bytes(MB)
    with pytest.raises(QueueFullError):
        await queue.enqueue_many([work.message(data) for _ in range(61)])
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many([*(work.message(data) for _ in range(40)), work.message(bytes(2 * MB))])
    ((index, error),) = caught.value.errors
    assert (index, type(error)) == (40, PayloadTooLargeError)
    assert (await queue.queue_stats("default")).ready == 0
    handles = await queue.enqueue_many([work.message(data) for _ in range(60)])
    assert (await queue.queue_stats("default")).ready == len({handle.id for handle in handles}) == 60
    with pytest.raises(QueueFullError):
        await work.enqueue(b"")


async def test_large_results_that_end_together_all_arrive(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=30)

    @queue.task
    async def large(number: int) -> bytes:
        return bytes([number]) * MB

    handles = await queue.enqueue_many([large.message(number) for number in range(30)])
    await run_worker(queue)
    for number, handle in enumerate(handles):
        assert await handle.result(timeout=30) == bytes([number]) * MB


async def test_a_listing_of_large_dead_letters_goes_from_page_to_page(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()

    @queue.task(max_retries=0)
    async def fail(number: int, data: bytes) -> None:
        raise ValueError(str(number))

    await queue.enqueue_many([fail.message(number, bytes(MB if number % 3 else 10)) for number in range(40)])
    await run_worker(queue)

    async def all_dead() -> bool:
        return (await queue.queue_stats("default")).dead == 40

    await until(all_dead, "all have failed")
    pages = [await queue.dead_letters("default", limit=15, cursor=cursor) for cursor in (0, 15, 30, 45)]
    assert [len(page) for page in pages] == [15, 15, 10, 0]
    assert {letter.error for page in pages for letter in page} == {f"ValueError: {number}" for number in range(40)}
