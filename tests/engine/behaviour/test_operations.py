"""Pause, purge, statistics, and workers in this process."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from taskfleet import TaskNotFoundError, TaskQueue, TaskTimeoutError, WorkerInfo, handles
from tests.engine.conftest import RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker


async def test_pause_stops_claims_and_resume_goes_on(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> int:
        return 1

    await queue.pause("default")
    await run_worker(queue)
    handle = await task.enqueue()
    stats = await queue.queue_stats("default")
    assert stats.paused
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=0.2)
    await queue.resume("default")
    assert await handle.result(timeout=60) == 1


async def test_purge_drops_waiting_tasks(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(1500)])
    await task.options(delay=60).enqueue()
    assert await queue.purge("default") == 1501
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.delayed) == (0, 0)


async def test_who_waits_for_a_task_that_is_purged_learns_it_at_once(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "_RECHECK_SECONDS", 50.0)

    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=60))
    await until(lambda: white_box.awaited(queue), "it is waited for")
    began = time.monotonic()
    assert await queue.purge("default") == 1
    with pytest.raises(TaskNotFoundError, match="or was purged"):
        await waiting
    assert time.monotonic() - began < 20  # without a notification it looks again after 50 s
    assert not await white_box.awaited(queue)


async def test_workers_in_this_process(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> int:
        return 1

    await queue.start_workers(2)
    assert queue.worker_count == 2
    assert await (await task.enqueue()).result(timeout=60) == 1
    await queue.stop_workers()
    assert queue.worker_count == 0
    await queue.start_workers()
    assert queue.worker_count == 1  # workers.initial_count
    assert await queue.health_check()


async def test_the_workers_of_all_processes_are_listed(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    assert await queue.workers() == []
    worker = await run_worker(queue, concurrency=3)
    await hold.enqueue()

    async def busy() -> WorkerInfo | None:
        return next((one for one in await queue.workers() if one.busy), None)

    found = await until(busy, "its heartbeat tells of the task")
    assert (found.worker_id, found.name, found.pid) == (worker.identity.worker_id, worker.identity.name, os.getpid())
    assert (found.slots, found.busy, found.queues, found.state) == (3, 1, ("default",), "running")
    release.set()
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert await queue.workers() == []


async def test_statistics_count_tasks_by_state(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(3)])
    await task.options(delay=60).enqueue()
    await task.options(delay=500).enqueue()
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await asyncio.sleep(0.05)
    stats = await queue.queue_stats("default", horizon=120)
    assert (stats.ready, stats.in_flight, stats.delayed, stats.due, stats.enqueued_total) == (2, 1, 2, 1, 5)
    assert 0.04 < stats.oldest_age_seconds < 30


async def test_the_first_task_of_an_empty_queue_is_announced(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    heard: list[str] = []

    async def listen() -> None:
        async for name in queue.broker.activity():
            heard.append(name)

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: heard == [""], "the subscription stands")
        await task.enqueue()
        await until(lambda: heard == ["", "default"], "the first task is announced")
        await task.enqueue()
        await task.options(queue="other").enqueue()
        await until(lambda: heard == ["", "default", "other"], "only queues that were empty are")
    finally:
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
