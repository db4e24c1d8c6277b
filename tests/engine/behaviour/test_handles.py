"""What a handle can tell."""

from __future__ import annotations

import pytest

from taskfleet import TaskQueue, TaskTimeoutError
from tests.engine.conftest import RunWorker, until


async def test_a_handle_from_an_id_finds_its_queue(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(queue="other")
    async def answer() -> int:
        return 42

    task_id = (await answer.enqueue()).id
    await run_worker(queue)
    await until(lambda: _is(queue, task_id, "succeeded"), "it has run")
    assert await queue.handle(task_id).result(timeout=5) == 42
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
