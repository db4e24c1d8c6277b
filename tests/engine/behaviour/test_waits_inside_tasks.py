"""A worker whose every slot is held by a task that waits for another task's result says so."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskfleet import TaskExecutionError, TaskHandle, TaskQueue, current_task, handles
from taskfleet.runtime.state.result_waits import ResultWaits
from tests.engine.conftest import RunWorker, until

QUICK = 0.02  # s between two looks of a caller that waits


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The states of awaited tasks, one for each look of a task that waits."""
    found: list[str] = []
    note = ResultWaits.note

    def noted(waits: ResultWaits, waiter: object, task_id: str, state: str) -> None:
        note(waits, waiter, task_id, state)
        found.append(state)

    monkeypatch.setattr(handles, "_RECHECK_SECONDS", QUICK)
    monkeypatch.setattr(ResultWaits, "note", noted)
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "wait for the results" in record.getMessage()]


async def test_slots_that_wait_for_tasks_without_a_slot_are_told_once(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, notes: list[str]
) -> None:
    children: list[TaskHandle[int]] = []

    @queue.task
    async def child() -> int:
        return 1

    @queue.task(timeout=60, max_retries=0)
    async def parent() -> int:
        children.append(await child.enqueue())
        return await children[-1].result()

    @queue.task(timeout=60, max_retries=0)
    def plain_parent() -> int:
        children.append(child.enqueue_sync())
        return children[-1].result_sync()

    parents = await queue.enqueue_many([parent.message(), plain_parent.message()])
    with caplog.at_level(logging.WARNING, "taskfleet"):
        await run_worker(queue, concurrency=2)
        await until(lambda: bool(warnings(caplog)), "the worker tells it")
        many = len(notes) + 20
        await until(lambda: len(notes) > many, "the tasks look again")
    (warning,) = warnings(caplog)
    assert "all 2 slots of this worker" in warning
    assert "(parent, plain_parent)" in warning
    assert any(each.id in warning for each in children)
    assert "chain(" in warning
    await run_worker(queue, concurrency=1)  # no task was lost: another worker ends it
    assert [await each.result(timeout=60) for each in parents] == [1, 1]


async def test_a_task_that_waits_for_itself_fails(queue: TaskQueue, run_worker: RunWorker) -> None:
    watched: list[asyncio.Task[int]] = []

    @queue.task(max_retries=0)
    async def narcissus() -> int:
        return int(await queue.handle(current_task().id).result())

    @queue.task(max_retries=0)
    async def watched_by_its_child() -> int:
        watched.append(asyncio.create_task(queue.handle(current_task().id).result()))
        return 7

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match=r"task 'narcissus' \(\w+\) waits for its own result"):
        await (await narcissus.enqueue()).result(timeout=60)
    assert await (await watched_by_its_child.enqueue()).result(timeout=60) == 7
    assert await watched[0] == 7


@pytest.mark.parametrize("concurrency", [2, 3])
async def test_a_task_that_waits_beside_a_free_slot_is_no_reason_to_warn(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, notes: list[str], concurrency: int
) -> None:
    @queue.task
    async def child(n: int) -> int:
        return n

    @queue.task
    async def parent(n: int) -> int:
        return sum([await (await child.enqueue(each)).result() for each in range(n)])

    with caplog.at_level(logging.WARNING, "taskfleet"):
        await run_worker(queue, concurrency=concurrency)
        assert await (await parent.enqueue(5)).result(timeout=60) == 10
    assert warnings(caplog) == []


async def test_a_task_that_waits_for_one_that_another_worker_runs_is_no_reason_to_warn(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, notes: list[str]
) -> None:
    let_go = asyncio.Event()

    @queue.task(queue="elsewhere")
    async def child() -> int:
        await let_go.wait()
        return 1

    @queue.task
    async def parent(child_id: str) -> int:
        return int(await queue.handle(child_id).result())

    with caplog.at_level(logging.WARNING, "taskfleet"):
        running = await child.enqueue()
        other = await run_worker(queue, concurrency=1, queues=["elsewhere"])
        await until(lambda: bool(other.slots.running), "the child runs")
        await run_worker(queue, concurrency=1, queues=["default"])
        waiting = await parent.enqueue(running.id)
        await until(lambda: len(notes) > 20, "the task that waits looks many times")
        let_go.set()
        assert await waiting.result(timeout=60) == 1
    assert set(notes) == {"running"}
    assert warnings(caplog) == []
