from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis import exceptions as redis_exceptions

from taskfleet import Progress, Retry, TaskContext, TaskQueue, TaskTimeoutError, current_task
from taskfleet.protocol.progress_report import pack_report
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box


async def test_a_task_says_how_far_it_is(queue: TaskQueue, run_worker: RunWorker) -> None:
    go_on = asyncio.Event()

    @queue.task
    async def count() -> None:
        await current_task().progress(3, 10, "counting")
        await go_on.wait()

    handle = await count.enqueue()
    assert await handle.progress() is None
    await run_worker(queue)
    found = await until(handle.progress, "it has reported")
    assert (found.done, found.total, found.note, found.fraction) == (3, 10, "counting", 0.3)
    assert abs(found.at.timestamp() - time.time()) < 30
    assert await queue.handle(handle.id).progress() == found
    go_on.set()
    await handle.result(timeout=60)
    assert await handle.progress() is None
    assert await white_box.reports(queue) == 0
    assert await queue.handle("never-was").progress() is None


async def test_a_plain_function_reports_from_its_thread(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    go_on = False

    @queue.task
    def count() -> None:
        task = current_task()
        n = 0
        while not go_on:
            n += 1
            task.progress_sync(n, note="in a thread")
            time.sleep(0.001)

    handle = await count.enqueue()
    await run_worker(queue)
    first = await until(handle.progress, "it has reported")

    async def further() -> bool:
        now = await handle.progress()
        return now is not None and now.done > first.done

    await until(further, "it has reported again")
    assert (first.total, first.fraction, first.note) == (None, None, "in a thread")
    go_on = True
    await handle.result(timeout=60)


async def test_a_tight_loop_does_not_flood_redis_and_its_last_report_arrives(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = asyncio.Event()
    sent: list[int] = []
    report = queue.broker.report

    async def counted(name: str, incarnation: str, reports: Sequence[tuple[str, int, bytes]]) -> set[str]:
        sent.append(len(reports))
        return await report(name, incarnation, reports)

    monkeypatch.setattr(queue.broker, "report", counted)

    @queue.task
    async def loop(tasks: int) -> None:
        context = current_task()
        for n in range(1, 20_001):
            await context.progress(n, 20_000)
        await finish.wait()

    handles = await queue.enqueue_many([loop.message(n) for n in range(5)])
    began = time.monotonic()
    await run_worker(queue)

    async def all_done() -> bool:
        found = [await handle.progress() for handle in handles]
        return all(progress is not None and progress.done == 20_000 for progress in found)

    await until(all_done, "the last report of each has arrived")
    assert 1 <= len(sent) <= (time.monotonic() - began) / 0.25 + 2
    assert max(sent) == 5  # one call for all tasks
    finish.set()
    for handle in handles:
        await handle.result(timeout=60)
    assert await white_box.reports(queue) == 0


async def test_a_stale_report_changes_nothing_and_stops_the_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    stopped: list[str] = []
    lost = asyncio.Event()

    @queue.task
    async def task() -> None:
        try:
            await lost.wait()
            while True:
                await current_task().progress(1)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            stopped.append("cancelled")
            raise

    worker = await run_worker(queue, stall_limit=300.0)
    handle = await task.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    await white_box.give(queue, {handle.id: "somebody-else:2"})
    lost.set()
    await until(lambda: stopped, "the handler was cancelled")
    assert await white_box.reports(queue) == 0


@pytest.mark.orphans("it writes tokens of tasks that there are not")
async def test_the_token_decides(queue: TaskQueue) -> None:
    await white_box.give(queue, {"mine": "me:2", "old": "me:2", "theirs": "you:1"})
    report = pack_report(1, 2, "é" * 2000)
    items = [(task_id, delivery, report) for task_id, delivery in (("mine", 2), ("old", 1), ("theirs", 1), ("gone", 1))]
    # Nobody took the one of which Redis knows nothing, so its run may go on.
    assert await queue.broker.report("default", "me", items) == {"old", "theirs"}
    record = await queue.broker.progress("default", "mine")
    assert record is not None
    assert Progress.of_record(record).note == "é" * 1000  # cut
    assert await white_box.reports(queue) == 1


@pytest.mark.parametrize("ending", ["fails", "times out", "cancelled", "handed back and purged"])
async def test_every_ending_takes_the_report_along(queue: TaskQueue, run_worker: RunWorker, ending: str) -> None:
    go_on = asyncio.Event()

    @queue.task(max_retries=0, timeout=5 if ending == "times out" else None)
    async def task() -> None:
        await current_task().progress(1)
        await go_on.wait()
        raise ValueError

    handle = await task.enqueue()
    worker = await run_worker(queue)
    await until(handle.progress, "it has reported")
    if ending == "fails":
        go_on.set()
    elif ending == "cancelled":
        await handle.cancel()
    elif ending == "handed back and purged":
        worker.drain()
        worker.end_grace()
        await until(lambda: worker.health.stopped, "the worker has ended")
        assert await handle.status() == "ready"
        assert await handle.progress() is not None  # it has not ended
        await queue.purge("default")
    else:
        with pytest.raises(TaskTimeoutError):
            await handle.result(timeout=30)

    async def gone() -> bool:
        return await white_box.reports(queue) == 0

    await until(gone, "the report is gone")


async def test_cancelling_a_task_that_waits_for_its_retry_takes_the_report_along(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    go_on = asyncio.Event()

    @queue.task(retry=Retry.fixed(60))
    async def task() -> None:
        await current_task().progress(1)
        await go_on.wait()
        raise ValueError

    handle = await task.enqueue()
    await run_worker(queue)
    await until(handle.progress, "it has reported")
    go_on.set()

    async def retrying() -> bool:
        return await handle.status() == "retrying"

    await until(retrying, "it waits for its retry")
    assert await handle.progress() is not None
    await handle.cancel()
    assert await white_box.reports(queue) == 0


async def test_reports_wait_for_redis_and_the_task_notices_nothing(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    failures = 0
    report = queue.broker.report

    async def fails_twice(*args: Any) -> set[str]:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise redis_exceptions.ConnectionError("gone")
        return await report(*args)

    monkeypatch.setattr(queue.broker, "report", fails_twice)

    @queue.task
    async def task() -> str:
        await current_task().progress(1)
        await go_on.wait()
        return "done"

    handle = await task.enqueue()
    await run_worker(queue)
    found = await until(handle.progress, "the report has arrived")
    assert (found.done, failures) == (1, 2)
    go_on.set()
    assert await handle.result(timeout=60) == "done"


async def test_progress_is_numbers(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def task() -> str:
        with pytest.raises(TypeError, match="progress: done='half' is no number"):
            await current_task().progress("half")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="progress: total='all' is no number"):
            await current_task().progress(1, "all")  # type: ignore[arg-type]
        return "both refused"

    await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=60) == "both refused"


async def test_a_context_made_by_hand_forgets_reports() -> None:
    import datetime as dt

    context = TaskContext("id", "task", "default", 1, 1, dt.datetime.now(dt.UTC), None)
    await context.progress(1, 2, "nobody listens")
    assert context.headers == {}
