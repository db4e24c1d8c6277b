"""Cancelled while it waits, and while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

import pytest

from taskfleet import TaskCancelledError, TaskNotFoundError, TaskQueue
from taskfleet.runtime.job import Job
from tests.engine.conftest import RunWorker, until
from tests.support import inside


async def test_waiting_tasks_can_be_cancelled_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        ran.append(name)

    ready = await task.enqueue("ready")
    delayed = await task.options(delay=60).enqueue("delayed")
    other = await task.enqueue("other")
    for handle in (ready, delayed):
        assert await handle.cancel() is True
        assert await handle.cancel() is False
        assert await handle.status() == "cancelled"
        with pytest.raises(TaskCancelledError):
            await handle.result(timeout=1)
    assert (await queue.queue_stats("default")).ready == 1
    await run_worker(queue)
    await other.result(timeout=10)
    assert ran == ["other"]
    assert await queue.handle("never-was").cancel() is False
    with pytest.raises(TaskNotFoundError):
        await queue.handle("never-was").result(timeout=1)


async def test_a_running_task_can_be_cancelled_and_never_retries(queue: TaskQueue, run_worker: RunWorker) -> None:
    attempts = 0

    @queue.task(max_retries=5)
    async def endless() -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("the cancellation is drowned by another error")

    await run_worker(queue)
    handle = await endless.enqueue()
    await until(lambda: attempts, "it runs")
    assert await handle.status() == "running"
    assert await handle.cancel() is True
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=10)
    assert attempts == 1


async def test_a_task_that_succeeds_in_spite_of_its_cancellation_leaves_no_mark(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @queue.task(result_ttl=0)
    async def deaf() -> None:
        started.set()
        await asyncio.shield(release.wait())

    worker = await run_worker(queue)
    handle = await deaf.enqueue()
    await started.wait()
    # The mark without its announcement: the worker hears of it at its next renewal, which comes too late.
    await inside.mark_cancelled(queue, handle.id)
    release.set()
    await until(lambda: not worker.held, "it has ended")
    assert await inside.cancel_marks(queue) == set()
    assert (await queue.queue_stats("default")).finished_total == 1


async def test_a_task_that_is_stopped_before_its_first_step_has_an_end_and_frees_its_slot(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def task() -> None:
        await asyncio.sleep(60)

    worker = await run_worker(queue, concurrency=1)
    launch = worker.execution.launch

    def launch_and_stop(job: Job, run: Coroutine[Any, Any, None], own: Context) -> None:
        launch(job, run, own)
        worker.interrupt([job.id], "cancel")

    worker.execution.launch = launch_and_stop  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(TaskCancelledError):
            await (await task.enqueue()).result(timeout=5)
