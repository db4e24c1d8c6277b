"""Cancellation of waiting and of running tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

import pytest

from taskfleet import TaskCancelledError, TaskNotFoundError, TaskQueue
from taskfleet.protocol import result_record
from taskfleet.protocol.claim import StepReply
from taskfleet.runtime.state.job import Job
from tests.engine.conftest import RunWorker, until
from tests.support import white_box


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
            await handle.result(timeout=60)
    assert (await queue.queue_stats("default")).ready == 1
    await run_worker(queue)
    await other.result(timeout=60)
    assert ran == ["other"]
    assert await queue.handle("never-was").cancel() is False
    with pytest.raises(TaskNotFoundError):
        await queue.handle("never-was").result(timeout=60)


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
        await handle.result(timeout=60)
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
    # The cancellation mark without its notification: the worker learns of it at its next renewal, which is too late.
    await white_box.mark_cancelled(queue, handle.id)
    release.set()
    await until(lambda: not worker.held, "it has ended")
    assert await white_box.cancel_marks(queue) == set()
    assert (await queue.queue_stats("default")).finished_total == 1


async def test_a_task_that_is_stopped_before_its_first_step_has_an_end_and_frees_its_slot(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def task() -> None:
        await asyncio.sleep(60)

    worker = await run_worker(queue, concurrency=1)
    launch = worker.launcher.launch

    def launch_and_stop(job: Job, run: Coroutine[Any, Any, None], own: Context) -> None:
        launch(job, run, own)
        worker.interrupts.interrupt([job.id], "cancel")

    worker.launcher.launch = launch_and_stop  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(TaskCancelledError):
            await (await task.enqueue()).result(timeout=60)


async def _taken_over(queue: TaskQueue, task_id: str, *, max_deliveries: int = 5) -> None:
    """A task is cancelled while it runs in a worker that was killed; another worker finds its lease ended."""
    lost = white_box.RawWorker(queue, "lost", lease_ms=60_000)
    assert task_id in (await lost.step(1))[1]
    assert await queue.handle(task_id).cancel() is True
    await white_box.end_lease(queue, task_id)
    assert (await white_box.RawWorker(queue, "heir", max_deliveries=max_deliveries).step(1))[1] == {}


@pytest.mark.parametrize("max_deliveries", [1, 5])
async def test_a_cancelled_task_whose_worker_was_killed_ends_as_cancelled(
    queue: TaskQueue, run_worker: RunWorker, max_deliveries: int
) -> None:
    ran: list[str] = []

    @queue.task(unique_key="k")
    async def task() -> None:
        ran.append("task")

    @queue.task
    async def behind() -> None:
        ran.append("behind")

    handle = await task.enqueue()
    after = await behind.options(after=[handle]).enqueue()
    waiting = asyncio.ensure_future(handle.result(timeout=60))
    await until(lambda: white_box.awaited(queue), "somebody waits for its end")
    await _taken_over(queue, handle.id, max_deliveries=max_deliveries)
    await run_worker(queue)
    with pytest.raises(TaskCancelledError, match="cancelled while it ran"):
        await waiting
    with pytest.raises(TaskCancelledError, match="cancelled while it ran"):
        await after.result(timeout=60)
    assert await handle.status() == "cancelled"
    assert await queue.dead_letters("default") == []
    assert await queue.requeue_dead("default") == 0
    stats = await queue.queue_stats("default")
    assert (stats.failed_total, stats.finished_total, stats.in_flight, stats.blocked) == (0, 2, 0, 0)
    assert ran == []
    assert await white_box.cancel_marks(queue) == set()
    assert await white_box.left_behind(queue) == {}
    await (await task.enqueue()).result(timeout=60)


@pytest.mark.parametrize("code", "rnfdx")
async def test_a_task_that_is_marked_as_cancelled_ends_as_cancelled_on_every_way(queue: TaskQueue, code: str) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    worker = white_box.RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    await white_box.mark_cancelled(queue, handle.id)
    record = result_record.pack_cancelled("cancelled while it ran")
    own = result_record.pack_expired("it expired") if code == "x" else record
    extra: Any = {"f": b"\x93\xa1x\xa1x\xa1x", "d": b"\x93\xa1x\xa1x\xa1x", "x": record}.get(code, 50)
    await worker.step(0, [(handle.id, 1, code, 0, own, 60_000, extra)])
    assert await handle.status() == "cancelled"
    assert (await worker.step(1))[1] == {}
    stats = await queue.queue_stats("default")
    assert (stats.failed_total, stats.finished_total, stats.dead, stats.delayed) == (0, 1, 0, 0)


@pytest.mark.parametrize(("code", "state"), [("x", "expired"), ("d", "dead")])
async def test_an_older_workers_outcome_of_a_marked_task_is_recorded_too(
    queue: TaskQueue, code: str, state: str
) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    worker = white_box.RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    await white_box.mark_cancelled(queue, handle.id)
    own = result_record.pack_expired("it expired") if code == "x" else b""
    await worker.step(0, [(handle.id, 1, code, 0, own, 60_000, b"\x93\xa1x\xa1x\xa1x" if code == "d" else 0)])
    assert await handle.status() == state
    assert await white_box.cancel_marks(queue) == set()


async def test_an_expired_task_that_was_cancelled_in_the_meantime_is_cancelled(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.options(expires=0.001).enqueue()
    await asyncio.sleep(0.01)
    step = queue.broker.step

    async def step_and_cancel(*args: Any) -> StepReply:
        reply = await step(*args)
        for claim in reply.claims:
            await white_box.mark_cancelled(queue, claim[1])
        return reply

    monkeypatch.setattr(queue.broker, "step", step_and_cancel)
    await run_worker(queue)
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=60)
    assert await handle.status() == "cancelled"
