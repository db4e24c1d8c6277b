"""A worker claims only from the queues that it serves, even if the same Redis has others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from taskfleet import TaskQueue
from taskfleet.runtime.fleet import background_loops
from taskfleet.tasks.function import TaskFunction
from tests.engine.conftest import MakeQueue, RunWorker, until


def app(queue: TaskQueue, name: str) -> tuple[TaskFunction[[int], int, object], list[int]]:
    """An application with one task in a queue of the same name."""
    ran: list[int] = []

    @queue.task(queue=name, name=f"task_of_{name}")
    async def task(n: int) -> int:
        ran.append(n)
        return n

    return task, ran  # type: ignore[return-value]


def searches(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let workers search for partitions all the time; return a function that counts the searches."""
    monkeypatch.setattr(background_loops, "_LOOK_FOR_PARTITIONS_SECONDS", 0.01)
    find, count = queue.broker.partitions, 0

    async def counted(name: str | None = None) -> list[str]:
        nonlocal count
        found = await find(name)
        count += 1
        return found

    monkeypatch.setattr(queue.broker, "partitions", counted)
    return lambda: count


async def untouched(queue: TaskQueue, name: str, ready: int) -> None:
    stats = await queue.queue_stats(name)
    assert (stats.ready, stats.in_flight, stats.dead, stats.finished_total) == (ready, 0, 0, 0)


async def searched_twice(count: Callable[[], int]) -> None:
    before = count()
    await until(lambda: count() >= before + 2, "the worker has searched for partitions")


async def test_the_queue_of_another_application_is_never_touched(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_queue(), make_queue()
    (theirs, their_runs), (ours, our_runs) = app(first, "a"), app(second, "b")
    await first.enqueue_many([theirs.message(n) for n in range(200)])
    count = searches(second, monkeypatch)
    worker = await run_worker(second, concurrency=2)
    await searched_twice(count)
    handles = await second.enqueue_many([ours.message(n) for n in range(50)])
    assert await asyncio.gather(*(handle.result(timeout=60) for handle in handles)) == list(range(50))
    await untouched(first, "a", 200)
    assert (their_runs, len(our_runs)) == ([], 50)
    assert worker.selection.names == ["b"]


async def test_a_queue_that_appears_later_is_not_touched_either(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_queue(queues=[{"name": "a", "partitions": 3}]), make_queue()
    (theirs, _), (ours, _) = app(first, "a"), app(second, "b")
    count = searches(second, monkeypatch)
    await run_worker(second)
    await first.enqueue_many([theirs.message(n) for n in range(30)])
    await searched_twice(count)
    assert await (await ours.enqueue(1)).result(timeout=60) == 1
    await untouched(first, "a", 30)


async def test_a_worker_of_one_of_its_applications_queues_leaves_the_other(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(queues=["high", "low"])
    (high, _), (low, _) = app(queue, "high"), app(queue, "low")
    await queue.enqueue_many([low.message(n) for n in range(20)])
    count = searches(queue, monkeypatch)
    await run_worker(queue, queues=["high:3"])
    await searched_twice(count)
    assert await (await high.enqueue(7)).result(timeout=60) == 7
    await untouched(queue, "low", 20)


@pytest.mark.parametrize("other", ["a:1", "a.b", "a-", "A", "aa"])
async def test_a_queue_with_a_common_name_prefix_is_another_queue(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    first, second = make_queue(), make_queue(queues=[{"name": "a", "partitions": 2}])
    (theirs, _), (ours, _) = app(first, other), app(second, "a")
    await first.enqueue_many([theirs.message(n) for n in range(5)])
    count = searches(second, monkeypatch)
    worker = await run_worker(second)
    await searched_twice(count)
    handles = await second.enqueue_many([ours.message(n) for n in range(10)])
    await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
    await untouched(first, other, 5)
    assert worker.selection.names == ["a", "a/1"]


async def test_a_queue_with_a_number_at_its_end_is_no_weight_of_another(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    first, second = make_queue(), make_queue(queues=["tenant:42"])
    (theirs, _), (ours, _) = app(first, "tenant"), app(second, "tenant:42")
    await theirs.enqueue(1)
    await run_worker(second, queues=["tenant:42"])
    assert await (await ours.enqueue(42)).result(timeout=60) == 42
    await untouched(first, "tenant", 1)


async def test_a_schedule_for_another_application_does_not_make_the_worker_serve_its_queue(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    first, second = make_queue(), make_queue()
    (theirs, _), (ours, _) = app(first, "a"), app(second, "b")
    await theirs.enqueue(1)
    await second.add_schedule(name="nightly", schedule="0 3 * * *", task="task_of_a", args=[1], queue="a")
    worker = await run_worker(second)
    assert await (await ours.enqueue(2)).result(timeout=60) == 2
    await untouched(first, "a", 1)
    assert worker.selection.queues == ["b"]


async def test_leases_that_end_in_another_applications_queue_are_left_to_it(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_queue(queues=[{"name": "a", "lease_seconds": 1}]), make_queue()
    (theirs, _), (ours, _) = app(first, "a"), app(second, "b")
    await theirs.enqueue(1)
    await first.broker.step("a", first.application.options_of("a"), "a-dead-worker", 1, [])
    count = searches(second, monkeypatch)
    await run_worker(second)

    # Redis' clock decides when the lease has ended.
    await ours.options(delay=1.2).enqueue(0)
    await until(lambda: _finished(second, "b", 1), "the lease in the other queue has ended")
    await searched_twice(count)
    assert await (await ours.enqueue(1)).result(timeout=60) == 1
    assert (await first.queue_stats("a")).in_flight == 1


async def _finished(queue: TaskQueue, name: str, count: int) -> bool:
    return (await queue.queue_stats(name)).finished_total == count
