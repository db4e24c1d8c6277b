"""One queue over several hash slots."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import ConfigurationError, TaskQueue, chord
from tests.engine.conftest import MakeQueue, RunWorker, until


def partitioned(make_queue: MakeQueue, n: int = 4) -> TaskQueue:
    return make_queue(queues=[{"name": "default", "partitions": n}])


async def test_tasks_spread_and_all_run(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = partitioned(make_queue)

    @queue.task
    async def echo(n: int) -> int:
        return n

    handles = await queue.enqueue_many([echo.message(n) for n in range(200)])
    handles.append(await echo.enqueue(200))
    assert {handle.queue for handle in handles} == {"default"}
    names = await queue.broker.partitions("default")
    assert names == ["default", "default/1", "default/2", "default/3"]
    assert await queue.broker.queues() == ["default"]
    assert (await queue.queue_stats("default")).ready == 201
    assert list(await queue.get_metrics()) == ["default"]
    await run_worker(queue)
    assert await asyncio.gather(*(handle.result(timeout=60) for handle in handles)) == list(range(201))
    assert await queue.handle(handles[7].id).status() == "succeeded"


async def test_order_is_kept_inside_a_partition_and_partitions_are_served_evenly(make_queue: MakeQueue) -> None:
    queue = partitioned(make_queue, 2)

    @queue.task
    async def task() -> None: ...

    handles = await queue.enqueue_many([task.message() for _ in range(400)])
    sent: dict[str, list[str]] = {}
    for handle in handles:
        sent.setdefault(str(handle.partition), []).append(handle.id)
    claimed: dict[str, list[str]] = {}
    for name in sent:
        reply = await queue.broker.step(name, queue.application.options_of(name), "w", 400, [])
        claimed[name] = [claim[1] for claim in reply.claims]
    assert claimed == sent
    assert min(map(len, sent.values())) > 100


async def test_tasks_that_share_a_key_share_a_partition(make_queue: MakeQueue) -> None:
    queue = partitioned(make_queue)

    @queue.task
    async def task() -> None: ...

    for option in ("limit_key", "fair_key"):
        handles = await queue.enqueue_many([task.options(**{option: "k"}).message() for _ in range(20)])
        assert len({handle.partition for handle in handles}) == 1
    first, second = [await task.options(unique_key="u").enqueue() for _ in range(2)]
    assert first.id == second.id


async def test_operations_reach_all_partitions(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = partitioned(make_queue)

    @queue.task(max_retries=0)
    async def fails() -> None:
        raise ValueError("no")

    await run_worker(queue)
    await queue.enqueue_many([fails.message() for _ in range(40)])
    await until(lambda: _dead(queue, 40), "all have failed")
    letters = await queue.dead_letters("default")
    assert len({letter.id for letter in letters}) == 40
    assert len(await queue.dead_letters("default", limit=7, cursor=30)) == 7
    await queue.pause("default")
    assert (await queue.queue_stats("default")).paused
    assert await queue.requeue_dead("default", [letters[0].id, letters[39].id]) == 2
    assert await queue.requeue_dead("default") == 38
    assert (await queue.queue_stats("default")).ready == 40
    assert await queue.purge("default") == 40
    await queue.resume("default")
    assert not (await queue.queue_stats("default")).paused


async def _dead(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).dead == count


async def test_a_queue_can_get_more_and_fewer_partitions(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    one, four = make_queue(), partitioned(make_queue)

    def define(queue: TaskQueue):  # type: ignore[no-untyped-def]
        @queue.task
        async def echo(n: int) -> int:
            return n

        return echo

    before = await one.enqueue_many([define(one).message(n) for n in range(10)])
    spread = await four.enqueue_many([define(four).message(n) for n in range(40)])
    await run_worker(one)  # this worker knows only one partition, and finds the others
    assert await asyncio.gather(*(handle.result(timeout=60) for handle in [*before, *spread])) == [
        *range(10), *range(40)
    ]  # fmt: skip


async def test_activity_names_the_queue_not_the_partition(make_queue: MakeQueue) -> None:
    queue = partitioned(make_queue)
    heard: list[str] = []

    @queue.task
    async def task() -> None: ...

    async def listen() -> None:
        async for name in queue.broker.activity():
            heard.append(name)

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: heard == [""], "the subscription stands")
        await queue.enqueue_many([task.message() for _ in range(20)])
        await until(lambda: len(heard) == 5, "each partition that was empty says so")
        assert set(heard[1:]) == {"default"}
    finally:
        listening.cancel()


async def test_workflows_cross_partitions(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = partitioned(make_queue)

    @queue.task
    async def one(n: int) -> int:
        return n

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    await run_worker(queue)
    assert await (await queue.enqueue(chord([one.message(n) for n in range(50)], total.message()))).result(60) == 1225


def test_partitions_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="partitions=0 must be a whole number of at least 1"):
        TaskQueue(queues=[{"name": "default", "partitions": 0}])


async def test_a_pause_before_the_first_task_is_one_of_all_partitions(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = partitioned(make_queue)

    @queue.task
    async def noop() -> None: ...

    await queue.pause("default")
    await run_worker(queue)
    handles = await queue.enqueue_many([noop.message() for _ in range(40)])
    assert len({handle.partition for handle in handles}) == 4
    looks = await queue.enqueue_many([noop.options(queue="other").message() for _ in range(40)])
    await run_worker(queue, queues=["other"])
    for handle in looks:
        await handle.result(timeout=60)
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.paused) == (40, 0, True)
    await queue.resume("default")
    for handle in handles:
        await handle.result(timeout=60)
