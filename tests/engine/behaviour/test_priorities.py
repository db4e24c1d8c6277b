"""Priorities: which queue is served first."""

from __future__ import annotations

from tests.engine.conftest import MakeQueue, RunWorker, until


async def test_higher_tiers_come_first(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "low", "priority": 0}, {"name": "high", "priority": 10}])
    order: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        order.append(name)

    for _ in range(20):
        await task.options(queue="low").enqueue("low")
    for _ in range(20):
        await task.options(queue="high").enqueue("high")
    await run_worker(queue, concurrency=1, queues=["low", "high"])
    await until(lambda: len(order) == 40, "all have run")
    # The very first claim may come before the worker knows of the other queue.
    assert order[:20].count("high") >= 19


async def test_weights_share_a_tier(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    order: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        order.append(name)

    for name in ("a", "b"):
        await queue.enqueue_many([task.options(queue=name).message(name) for _ in range(400)])
    await run_worker(queue, concurrency=8, queues=["a:3", "b:1"])
    await until(lambda: len(order) == 800, "all have run")
    assert 0.65 <= order[:400].count("a") / 400 <= 0.85
