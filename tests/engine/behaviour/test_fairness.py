"""Fair keys take turns."""

from __future__ import annotations

import random

from taskfleet import TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until


async def claim_all(queue: TaskQueue, keys: dict[str, str], *, at_once: int = 1) -> list[str]:
    """The keys of all tasks, in the order of their claims."""
    order: list[str] = []
    options = queue.application.options_of("default")
    while True:
        reply = await queue.broker.step("default", options, "w", at_once, [])
        if not reply.claims:
            return order
        order += [keys[claim[1]] for claim in reply.claims]
        done = [(c[1], c[4], "s", 0, b"", 0, 0) for c in reply.claims]
        await queue.broker.step("default", options, "w", 0, done)


async def enqueue(queue: TaskQueue, task, amounts: dict[str, int]) -> dict[str, str]:  # type: ignore[no-untyped-def]
    keys: dict[str, str] = {}
    for key, amount in amounts.items():
        handles = await queue.enqueue_many([task.options(fair_key=key or None).message() for _ in range(amount)])
        keys |= {handle.id: key for handle in handles}
    return keys


async def test_a_small_key_does_not_wait_behind_a_large_one(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    keys = await enqueue(queue, task, {"large": 300, "a": 10, "b": 10})
    order = await claim_all(queue, keys, at_once=7)
    assert order.count("large") == 300
    assert set(order[:30]) == {"large", "a", "b"}
    # Each small key has had its ten turns when the large key has had ten.
    assert sorted(order[:30]) == ["a"] * 10 + ["b"] * 10 + ["large"] * 10


async def test_a_key_that_comes_late_has_its_turn_at_once_and_no_credit(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    keys = await enqueue(queue, task, {"large": 50})
    reply = await queue.broker.step("default", queue.application.options_of("default"), "w", 20, [])
    assert len(reply.claims) == 20
    keys |= await enqueue(queue, task, {"late": 20})
    order = await claim_all(queue, keys)
    assert order[:10].count("late") == 5
    assert order[:20].count("late") == 10


async def test_tasks_without_a_key_share_a_turn(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    keys = await enqueue(queue, task, {"large": 100, "": 10})
    order = await claim_all(queue, keys)
    assert sorted(order[:20]) == [""] * 10 + ["large"] * 10


async def test_first_in_first_out_inside_a_key(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    @queue.task(fair_key=lambda key, n: key)
    async def task(key: str, n: int) -> None:
        seen[key].append(n)

    messages = [task.message(random.choice("abc"), n) for n in range(200)]
    await queue.enqueue_many(messages)
    await run_worker(queue)
    await until(lambda: sum(map(len, seen.values())) == 200, "all have run")
    assert all(numbers == sorted(numbers) for numbers in seen.values())


async def test_cancelled_and_purged_tasks_leave_no_turn_behind(queue: TaskQueue) -> None:
    @queue.task(fair_key="k")
    async def task() -> None: ...

    handles = await queue.enqueue_many([task.message() for _ in range(5)])
    assert await handles[0].cancel()
    assert (await queue.queue_stats("default")).ready == 4
    assert await queue.purge("default") == 4
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.finished_total) == (0, 5)
