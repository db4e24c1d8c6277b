"""Redis comes back without its data: what runs goes on, and nothing is told that did not happen."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import BatchItem, TaskQueue
from taskfleet.protocol import result_record
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker

KNOWS_NOTHING = "Redis knows nothing of task"
TAKEN = "was taken from this worker"


async def test_tasks_that_redis_has_lost_run_to_their_end(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()
    ended: list[int] = []

    @queue.task
    async def hold(number: int) -> int:
        await release.wait()
        ended.append(number)
        return number

    worker = await run_worker(queue, concurrency=6)
    handles = [await hold.enqueue(number) for number in range(6)]
    await until(lambda: len(worker.slots.running) == 6, "all run")
    for handle in handles:
        await white_box.vanish(queue, handle.id)
    await until(lambda: sum(KNOWS_NOTHING in line for line in caplog.messages) == 6, "it is said")
    assert len(worker.slots.running) == 6
    release.set()
    await until(lambda: not worker.held, "the outcomes are sent")
    assert sorted(ended) == list(range(6))
    assert worker.tally.lost_acks == 6
    assert [await handle.result(timeout=60) for handle in handles] == list(range(6))  # nothing contradicts
    text = "\n".join(caplog.messages)
    assert TAKEN not in text
    assert text.count(KNOWS_NOTHING) == 6, "once for each, however often leases are renewed"
    assert "Redis knows nothing of the tasks of" in text


async def test_a_task_that_another_worker_has_is_cancelled_and_the_log_says_so(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = asyncio.Event()

    @queue.task
    async def hold() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    worker = await run_worker(queue)
    handle = await hold.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    await white_box.give_away(queue, handle.id)
    await asyncio.wait_for(stopped.wait(), 60)
    await until(lambda: not worker.held, "the worker holds nothing")
    text = "\n".join(caplog.messages)
    assert TAKEN in text
    assert KNOWS_NOTHING not in text
    await white_box.vanish(queue, handle.id)


async def test_tasks_of_a_batch_that_redis_has_lost_run_to_their_end(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    @queue.batch_task(size=3, window_ms=50)
    async def many(items: list[BatchItem]) -> list[int]:
        await release.wait()
        return [item.args[0] for item in items]

    worker = await run_worker(queue)
    handles = [await many.enqueue(number) for number in range(3)]
    await until(lambda: len(worker.slots.items) == 3, "the batch runs")
    for handle in handles:
        await white_box.vanish(queue, handle.id)
    await until(lambda: sum(KNOWS_NOTHING in line for line in caplog.messages) == 3, "it is said")
    release.set()
    await until(lambda: not worker.held, "the outcomes are sent")
    assert [await handle.result(timeout=60) for handle in handles] == [0, 1, 2]


@pytest.mark.parametrize("held", [True, False], ids=["the lease holds", "the lease may have expired"])
async def test_a_claimed_task_that_redis_has_lost_runs_if_nobody_can_have_taken_it(
    queue: TaskQueue, run_worker: RunWorker, held: bool
) -> None:
    ran: list[int] = []

    @queue.batch_task(size=4, window_ms=60_000)
    async def many(items: list[BatchItem]) -> None:
        ran.extend(item.args[0] for item in items)

    worker = await run_worker(queue)
    handles = [await many.enqueue(number) for number in range(3)]
    await until(lambda: len(worker.batches) == 3, "they wait for the fourth, and are not started")
    for handle in handles:
        await white_box.vanish(queue, handle.id)
    since = worker.health.last_renewal
    await until(lambda: worker.health.last_renewal > since + 0.5, "the leases are renewed more than once")
    assert len(worker.batches) == 3
    if not held:  # as after a pause of the worker that was longer than the lease
        worker.interrupts.unknown({handle.id: 1 for handle in handles}, False)
        assert (len(worker.batches), len(worker.held)) == (0, 0)
        return
    await many.enqueue(3)
    await until(lambda: not worker.held, "all have ended")
    assert ran == [0, 1, 2, 3]


async def test_a_result_that_is_there_stays(queue: TaskQueue) -> None:
    """A worker that was away reports a task that another has run: the first result counts."""

    @queue.task
    async def task() -> int:
        return 0

    handle = await task.enqueue()
    away, other = RawWorker(queue, "away"), RawWorker(queue, "other")
    await away.step(1)
    await white_box.end_lease(queue, handle.id)
    await other.step(1)
    first, second = (result_record.pack_success(value) for value in (b"\x01", b"\x02"))
    await other.step(0, [(handle.id, 2, "s", 1, first, 60_000, 0)])
    stale, _ = await away.step(0, [(handle.id, 1, "s", 1, second, 60_000, 0)])
    assert stale == 1
    assert await handle.result(timeout=60) == 1


@pytest.mark.parametrize("code", ["f", "r", "c", "x", "n"])
async def test_only_a_success_of_an_unknown_task_is_kept(queue: TaskQueue, code: str) -> None:
    @queue.task
    async def task() -> int:
        return 0

    handle = await task.enqueue()
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await white_box.vanish(queue, handle.id)
    record = result_record.pack_cancelled("it was")
    stale, claims = await worker.step(5, [(handle.id, 1, code, 1, record, 60_000, 0)])
    assert (stale, claims) == (1, {})
    assert await handle.status() == "unknown"


async def test_a_dead_letter_contradicts(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.task
    async def task() -> int:
        return 0

    handle = await task.enqueue()
    away, other = RawWorker(queue, "away"), RawWorker(queue, "other", max_deliveries=1)
    await away.step(1)
    await white_box.end_lease(queue, handle.id)
    await other.step(1)
    await away.step(0, [(handle.id, 1, "s", 1, result_record.pack_success(b"\x01"), 60_000, 0)])
    assert await handle.status() == "dead"
    await queue.purge_dead("default")
    assert await handle.status() == "unknown"
