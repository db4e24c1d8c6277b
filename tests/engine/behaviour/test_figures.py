"""The figures that the autoscaler reads: what became ready, what ran, what is due, and who works."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import QueueOptions, Retry, TaskQueue, chain
from taskfleet.protocol.stats import QueueStats
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker

HOUR_MS = 3_600_000


async def figures_of(queue: TaskQueue, name: str = "default", *, horizon: int = 0, soon: int = 0) -> QueueStats:
    return (await queue.broker.figures({name: (horizon, soon)})).stats[name]


async def counted(queue: TaskQueue) -> tuple[int, int]:
    """(became ready, ran)"""
    stats = await figures_of(queue)
    return stats.runnable_total, stats.attempts_total


async def test_a_task_that_is_delayed_becomes_ready_when_its_delay_ends(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message(), *(task.options(delay=3600).message() for _ in range(20))])
    assert await counted(queue) == (1, 0)
    late = await task.options(delay=3600).enqueue()
    await white_box.make_due(queue, late.id)
    assert await counted(queue) == (2, 0)  # no step has moved it yet
    await RawWorker(queue, "w").step(5)
    assert await counted(queue) == (2, 0)


async def test_a_task_that_waits_for_another_becomes_ready_when_that_has_ended(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def task(value: int = 0) -> int:
        return value

    handle = await queue.enqueue(chain(task.message(), task.message(), task.message()))
    assert await counted(queue) == (1, 0)
    await run_worker(queue)
    await handle.result(timeout=60)
    assert await counted(queue) == (3, 3)


async def test_a_retry_becomes_ready_again_and_each_run_counts(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs = 0

    @queue.task(retry=Retry.fixed(0.05), max_retries=2)
    async def task() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("not yet")

    await run_worker(queue)
    await (await task.enqueue()).result(timeout=60)
    assert await counted(queue) == (3, 3)


async def test_dead_letters_that_are_requeued_become_ready_again(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def task() -> None:
        raise ValueError

    async def is_counted(wanted: int) -> bool:
        return await counted(queue) == (wanted, wanted)

    await queue.enqueue_many([task.message() for _ in range(3)])
    await run_worker(queue)
    await until(lambda: is_counted(3), "all are dead letters")
    (dead, *_) = await queue.dead_letters("default")
    assert await queue.requeue_dead("default", [dead.id]) == 1
    await until(lambda: is_counted(4), "one has run again")
    assert await queue.requeue_dead("default") == 3
    await until(lambda: is_counted(7), "all have run again")


async def test_a_task_that_is_taken_over_becomes_ready_again(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    await RawWorker(queue, "dead").step(1)
    await white_box.end_lease(queue, handle.id)
    _, claims = await RawWorker(queue, "w").step(1)
    assert list(claims) == [handle.id]
    assert await counted(queue) == (2, 0)


async def test_a_task_that_is_given_back_is_not_counted_again(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await worker.step(0, [(handle.id, 1, "n", 0, b"", 0, 0)])
    assert await counted(queue) == (1, 0)


@pytest.mark.parametrize("end", ["purge", "cancel", "expire"])
async def test_what_never_ran_is_no_run(queue: TaskQueue, run_worker: RunWorker, end: str) -> None:
    """A purge of 100,000 must not make the mean run as short as if they had taken no time."""

    @queue.task
    async def task() -> None: ...

    calls = [task.options(expires=0.001).message() if end == "expire" else task.message() for _ in range(10)]
    handles = await queue.enqueue_many([*calls, task.options(delay=3600).message()])
    await white_box.make_due(queue, handles[-1].id)
    before = await figures_of(queue)
    assert (before.runnable_total, before.finished_total) == (11, 0)
    if end == "purge":
        await queue.purge("default")
    elif end == "cancel":
        for handle in handles:
            await handle.cancel()
    else:
        await run_worker(queue)
        await until(lambda: _finished(queue, 11), "all have ended")
    ran = 1 if end == "expire" else 0  # the last one has no expiry
    after = await figures_of(queue)
    assert (after.runnable_total, after.attempts_total, after.finished_total) == (11, ran, 11)


async def _finished(queue: TaskQueue, count: int) -> bool:
    return (await figures_of(queue)).finished_total == count


async def test_a_task_that_cannot_be_run_is_no_run(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    await white_box.overwrite(queue, handle.id, b"12345678nonsense")
    await run_worker(queue)
    await until(lambda: _finished(queue, 1), "it is a dead letter")
    stats = await figures_of(queue)
    assert (stats.failed_total, stats.attempts_total) == (1, 0)


async def test_a_timeout_and_a_cancellation_of_a_run_are_runs(queue: TaskQueue, run_worker: RunWorker) -> None:
    started = asyncio.Event()

    @queue.task(timeout=0.05, max_retries=0)
    async def slow() -> None:
        await asyncio.sleep(60)

    @queue.task
    async def endless() -> None:
        started.set()
        await asyncio.sleep(60)

    await run_worker(queue)
    await slow.enqueue()
    handle = await endless.enqueue()
    await started.wait()
    await asyncio.sleep(0.02)  # a run of no time at all counts as none
    await handle.cancel()
    await until(lambda: _finished(queue, 2), "both have ended")
    assert await counted(queue) == (2, 2)


async def test_a_follower_of_a_unique_key_counts_once(queue: TaskQueue) -> None:
    """It checks again every 30 s whether its holder has ended, which is no arrival."""

    @queue.task
    async def task() -> None: ...

    worker = RawWorker(queue, "w")
    await task.options(unique_key="k", unique_mode="replace").enqueue()
    await worker.step(1)
    follower = await task.options(unique_key="k", unique_mode="replace").enqueue()
    assert await counted(queue) == (2, 0)
    for _ in range(3):
        await white_box.make_due(queue, follower.id)
        assert await counted(queue) == (2, 0)
        await worker.step(1)  # it follows again
        assert await counted(queue) == (2, 0)


async def test_parked_tasks_are_told_and_not_counted_again(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[QueueOptions("default", concurrency_per_key=1)])
    release = asyncio.Event()

    @queue.task
    async def task() -> None:
        await release.wait()

    handles = [await task.options(limit_key="one").enqueue() for _ in range(4)]
    await run_worker(queue)

    async def parked() -> bool:
        return (await figures_of(queue)).parked == 3

    await until(parked, "three wait for their key")
    assert await counted(queue) == (4, 0)
    release.set()
    for handle in handles:
        await handle.result(timeout=60)
    assert await counted(queue) == (4, 4)


async def test_two_horizons_in_one_reading(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    for delay in (5, 50, 500):
        await task.options(delay=delay).enqueue()
    await queue.add_schedule(name="soon", task=task, every=10)
    later = await queue.add_schedule(name="later", task=task, every=1e9)
    assert later.next_at is not None
    to_its_tick = later.next_at.timestamp() * 1000 - await white_box.now_ms(queue)
    await white_box.move_tick(queue, "later", round(100_000 - to_its_tick), "default")
    await queue.add_schedule(name="never", task=task, every=10, paused=True)
    stats = await figures_of(queue, horizon=200_000, soon=20_000)
    assert (stats.due, stats.due_soon) == (2, 1)
    assert (stats.ticks_due, stats.ticks_due_soon) == (2, 1)
    await queue.remove_schedule("soon")
    assert (await figures_of(queue, horizon=20_000)).ticks_due == 0


async def test_an_overdue_tick_is_due(queue: TaskQueue) -> None:
    """With no worker there is no scheduler: from zero, cron counts."""

    @queue.task
    async def task() -> None: ...

    await queue.add_schedule(name="yearly", task=task, schedule="0 0 1 1 *")
    assert (await figures_of(queue)).ticks_due == 0
    await white_box.move_tick(queue, "yearly", -400 * 24 * HOUR_MS, "default")
    stats = await figures_of(queue)
    assert (stats.ticks_due, stats.ticks_due_soon, stats.ready) == (1, 1, 0)


async def test_all_partitions_and_all_queues_are_in_one_reading(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[QueueOptions("wide", partitions=3), QueueOptions("other")])

    @queue.task(queue="wide")
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(30)])
    await queue.enqueue_many([task.options(delay=30).message() for _ in range(30)])
    found = await queue.broker.figures({"wide": (60_000, 0), "other": (0, 0), "unknown": (0, 0)})
    assert (found.stats["wide"].runnable_total, found.stats["wide"].due) == (30, 30)
    assert set(found.stats) == {"wide", "other", "unknown"}
    assert found.stats["unknown"].runnable_total == 0
    assert (found.workers, found.skipped) == ([], 0)
    worker = await run_worker(queue)

    async def seen() -> bool:
        return [info.worker_id for info in (await queue.broker.figures({})).workers] == [worker.identity.worker_id]

    await until(seen, "the worker is listed, also without queues")


async def test_a_worker_tells_how_long_its_oldest_run_takes(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def task() -> None:
        await release.wait()

    await run_worker(queue)

    async def oldest() -> float:
        (info,) = (await queue.broker.figures({})).workers or [None]
        return info.oldest_run_seconds if info else 0.0

    assert await oldest() == 0.0
    handle = await task.enqueue()
    first = await until(oldest, "the run is told")

    async def older() -> bool:
        return await oldest() > first

    await until(older, "it grows older")
    assert first < 10
    release.set()
    await handle.result(timeout=60)

    async def idle() -> bool:
        return await oldest() == 0.0

    await until(idle, "an idle worker has no run")
