"""7. Handles: status, progress, cancellation and result, from any process that knows the id."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import TaskCancelledError, TaskQueue, current_task


async def test_a_handle_can_be_made_from_an_id(queue: TaskQueue) -> None:
    @queue.task(result_ttl=60)  # seconds that the result is kept
    async def answer() -> int:
        return 42

    await queue.start_workers(1)
    task_id = (await answer.enqueue()).id  # an id is text: it goes into a cookie, a row, a URL
    assert await queue.handle(task_id).result(timeout=60) == 42
    assert await queue.handle("no-such-task").status() == "unknown"


async def test_a_task_reports_its_progress(queue: TaskQueue) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    @queue.task
    async def convert(pages: int) -> None:
        for page in range(1, pages + 1):
            await current_task().progress(page, pages, f"page {page}")
            if page * 2 == pages:
                halfway.set()
                await go_on.wait()

    await queue.start_workers(1)
    handle = await convert.enqueue(10)
    await halfway.wait()
    progress = await handle.progress()
    while progress is None or progress.done < 5:  # a worker sends the latest report a few times a second
        await asyncio.sleep(0.02)
        progress = await handle.progress()
    assert (progress.done, progress.total, progress.note, progress.fraction) == (5, 10, "page 5", 0.5)
    go_on.set()
    await handle.result(timeout=60)


async def test_a_task_is_cancelled_whether_it_waits_or_runs(queue: TaskQueue) -> None:
    started, cleaned_up = asyncio.Event(), asyncio.Event()

    @queue.task
    async def listen() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()  # a running coroutine is cancelled as asyncio does it

    waiting = await listen.enqueue()
    assert await waiting.cancel()
    assert await waiting.status() == "cancelled"

    await queue.start_workers(1)
    running = await listen.enqueue()
    await started.wait()
    assert await running.cancel()
    with pytest.raises(TaskCancelledError):
        await running.result(timeout=60)
    assert cleaned_up.is_set()
    assert not await running.cancel()  # it has ended: there is nothing to change


def test_code_without_an_event_loop_has_the_same_calls(queue: TaskQueue) -> None:
    @queue.task
    async def note(text: str) -> None: ...

    handle = note.enqueue_sync("from Django, Flask or a script")
    assert handle.status_sync() == "ready"
    assert handle.cancel_sync()
