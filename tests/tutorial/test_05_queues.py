"""5. Several queues: which task goes first, how many run at once, and the figures of a queue."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import QueueFullError, QueueOptions, TaskQueue, queue_names
from tests.tutorial.conftest import MakeQueue


async def test_a_worker_empties_queues_of_a_higher_priority_first(make_queue: MakeQueue) -> None:
    queue = make_queue(
        queues=[
            QueueOptions(queue_names.HIGH_PRIORITY, priority=10),
            QueueOptions(queue_names.DEFAULT, weight=3),  # queues of one priority share by their weights
            QueueOptions(queue_names.LOW_PRIORITY, weight=1),
        ],
        slots=1,
    )
    order: list[str] = []

    @queue.task
    async def note(text: str) -> None:
        order.append(text)

    handles = [await note.enqueue(f"default {n}") for n in range(3)]
    handles.append(await note.options(queue=queue_names.HIGH_PRIORITY).enqueue("urgent"))
    await queue.start_workers(1)
    for handle in handles:
        await handle.result(timeout=60)
    assert order == ["urgent", "default 0", "default 1", "default 2"]


async def test_limits_hold_over_all_workers(make_queue: MakeQueue) -> None:
    # Rates (`rate_limit`) and limits per tenant (`concurrency_per_key`) are options of a queue too.
    queue = make_queue(queues=[QueueOptions("mail", concurrency=2, max_length=10)])
    running = most = 0

    @queue.task(queue="mail")
    async def send() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    handles = [await send.enqueue() for _ in range(10)]
    with pytest.raises(QueueFullError, match="mail"):
        await send.enqueue()
    await queue.start_workers(2)
    for handle in handles:
        await handle.result(timeout=60)
    assert most == 2


async def test_a_queue_can_be_paused_and_tells_its_figures(queue: TaskQueue) -> None:
    @queue.task
    async def work() -> str:
        return "done"

    await queue.start_workers(1)
    await queue.pause("default")  # tasks are still accepted, but not claimed
    handles = [await work.enqueue() for _ in range(5)]
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.paused) == (5, 0, True)

    await queue.resume("default")
    for handle in handles:
        assert await handle.result(timeout=60) == "done"
    assert (await queue.queue_stats("default")).finished_total == 5
