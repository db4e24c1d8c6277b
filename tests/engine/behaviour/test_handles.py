"""Handles: status, result and progress of a task."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import TaskQueue, TaskTimeoutError
from taskfleet.handles import TaskHandle
from taskfleet.protocol.partitions import Partition
from tests.engine.conftest import RunWorker, until


async def test_a_handle_from_an_id_finds_its_queue(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(queue="other")
    async def answer() -> int:
        return 42

    task_id = (await answer.enqueue()).id
    await run_worker(queue)
    await until(lambda: _is(queue, task_id, "succeeded"), "it has run")
    assert await queue.handle(task_id).result(timeout=60) == 42
    assert await queue.handle("nothing").status() == "unknown"


async def _is(queue: TaskQueue, task_id: str, status: str) -> bool:
    return await queue.handle(task_id).status() == status


async def test_waiting_for_a_result_ends_with_a_timeout(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    with pytest.raises(TaskTimeoutError, match=r"no result after 0\.05 s") as caught:
        await handle.result(timeout=0.05)
    assert caught.value.task_id == handle.id
    assert caught.value.timeout_seconds == 0.05


async def test_one_id_in_two_queues_is_two_tasks(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()
    ran: list[int] = []

    @queue.task
    async def hold(n: int) -> int:
        ran.append(n)
        await release.wait()
        return n

    for name, n in (("default", 1), ("other", 2), ("another", 3)):
        item = hold.message(n).encode(10_000, task_id="same")
        await queue.broker.enqueue(name, [item])
    handles = [TaskHandle(queue.sessions, "same", Partition(name)) for name in ("default", "other", "another")]
    worker = await run_worker(queue, queues=["default", "other", "another"])
    await until(lambda: worker.slots.running, "one runs")
    release.set()
    assert [await handle.result(timeout=60) for handle in handles] == [1, 2, 3]
    assert sorted(ran) == [1, 2, 3]
    for name in ("default", "other", "another"):
        stats = await queue.queue_stats(name)
        assert (stats.in_flight, stats.finished_total) == (0, 1)
    assert not worker.held


@pytest.mark.parametrize("ended", ["a", "z"])
async def test_a_bare_id_is_looked_for_in_all_queues(queue: TaskQueue, run_worker: RunWorker, ended: str) -> None:
    @queue.task
    async def task(n: int) -> int:
        return n

    for name in ("a", "z"):
        await queue.broker.enqueue(name, [task.message(5).encode(10_000, task_id="same")])
    await run_worker(queue, queues=[ended])
    await TaskHandle(queue.sessions, "same", Partition(ended)).result(timeout=60)
    found = queue.handle("same")
    assert await found.result(timeout=60) == 5
    assert found.queue == ended
    assert await queue.handle("same").cancel() is True
