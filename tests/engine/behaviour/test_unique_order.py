"""One task of a unique key runs at a time: a task that arrives while another runs comes after it."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import QueueOptions, Retry, TaskCancelledError, TaskExecutionError, TaskQueue
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.options import UniqueMode
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker

FAILURE = b"\x93\xa1x\xa1x\xa1x"


class Runs:
    """Records the actions of the tasks of one key, and how many of them ran at once."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.release = asyncio.Event()
        self.now = self.most = 0

    async def one(self, n: int) -> int:
        self.started.append(n)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.release.wait()
            await asyncio.sleep(0)
            return n
        finally:
            self.now -= 1


def held(queue: TaskQueue, runs: Runs, mode: UniqueMode) -> TaskFunction[[int], int, object]:
    @queue.task(unique_key=lambda n: "k", unique_mode=mode, max_retries=1, retry=Retry.fixed(0.3))
    async def task(n: int) -> int:
        return await runs.one(n)

    return task  # type: ignore[return-value]


@pytest.mark.parametrize("mode", ["replace", "debounce"])
async def test_the_newest_comes_after_the_one_that_runs(
    queue: TaskQueue, run_worker: RunWorker, mode: UniqueMode
) -> None:
    runs = Runs()
    task = held(queue, runs, mode)
    await run_worker(queue)
    first = await task.enqueue(1)
    await until(lambda: runs.now, "it runs")
    handles = [await task.enqueue(n) for n in (2, 3, 4)]
    assert [await handle.status() for handle in handles] == ["cancelled", "cancelled", "delayed"]
    with pytest.raises(TaskCancelledError, match="replaced"):
        await handles[0].result(timeout=60)
    runs.release.set()
    assert (await first.result(timeout=60), await handles[-1].result(timeout=60)) == (1, 4)
    assert (runs.started, runs.most) == ([1, 4], 1)
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.delayed, stats.in_flight, stats.finished_total) == (0, 0, 0, 4)
    assert await white_box.left_behind(queue) == {}


@pytest.mark.parametrize("mode", ["replace", "debounce"])
async def test_the_key_is_held_through_the_retries_of_the_one_that_ran(
    queue: TaskQueue, run_worker: RunWorker, mode: UniqueMode
) -> None:
    runs = Runs()

    @queue.task(unique_key=lambda n: "k", unique_mode=mode, max_retries=3, retry=Retry.fixed(0.2))
    async def task(n: int) -> int:
        await runs.one(n)
        if n == 1 and runs.started.count(1) < 3:
            raise ValueError("again")
        return n

    await run_worker(queue)
    first = await task.enqueue(1)
    await until(lambda: runs.now, "it runs")
    second = await task.enqueue(2)
    runs.release.set()
    assert await second.result(timeout=60) == 2
    assert await first.status() == "succeeded"
    assert (runs.started, runs.most) == ([1, 1, 1, 2], 1)


async def test_one_that_waits_for_its_retry_is_replaced(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs = Runs()
    runs.release.set()

    @queue.task(unique_key=lambda n: "k", unique_mode="debounce", max_retries=3, retry=Retry.fixed(60))
    async def task(n: int) -> int:
        await runs.one(n)
        if n == 1:
            raise ValueError("again")
        return n

    await run_worker(queue)
    first = await task.enqueue(1)
    await until(lambda: _is(first.status(), "retrying"), "it waits for its retry")
    second = await task.enqueue(2)
    assert await second.result(timeout=60) == 2
    assert (await first.status(), runs.started, runs.most) == ("cancelled", [1, 2], 1)


async def _is(asked: object, wanted: str) -> bool:
    return bool(await asked == wanted)  # type: ignore[misc]


@pytest.mark.parametrize("ending", ["f", "d", "x", "c", "s", "taken over", "cancelled", "lost"])
async def test_every_ending_lets_the_next_one_in(queue: TaskQueue, ending: str) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode="replace")
    async def task(n: int) -> None: ...

    first = await task.enqueue(1)
    worker = RawWorker(queue, "w", lease_ms=60_000, max_deliveries=1)
    assert first.id in (await worker.step(1))[1]
    second = await task.enqueue(2)
    assert (await worker.step(5))[1] == {}
    if ending == "cancelled":
        await first.cancel()
    if ending == "lost":
        await white_box.vanish(queue, first.id)
        await white_box.make_due(queue, second.id)
    elif ending in ("taken over", "cancelled"):
        await white_box.end_lease(queue, first.id)
        await worker.step(0)
        await queue.broker.relay("default")
    else:
        await worker.step(0, [(first.id, 1, ending, 0, b"x", 0, FAILURE if ending in "fd" else 0)])
    claims = (await RawWorker(queue, "v", lease_ms=60_000).step(5))[1]
    assert list(claims) == [second.id]
    assert (await task.options(unique_mode="keep_existing").enqueue(3)).id == second.id


@pytest.mark.parametrize("code", ["n", "r"])
async def test_a_task_that_is_handed_back_stays_ahead_of_the_next(queue: TaskQueue, code: str) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode="replace")
    async def task(n: int) -> None: ...

    first = await task.enqueue(1)
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    second = await task.enqueue(2)
    await worker.step(0, [(first.id, 1, code, 0, b"x", 0, 0)])
    third = await task.enqueue(3)
    assert await second.status() == "cancelled"
    assert list((await worker.step(5))[1]) == [first.id]
    await worker.step(0, [(first.id, 2, "s", 0, b"", 0, 0)])
    assert list((await worker.step(5))[1]) == [third.id]


async def test_the_next_one_can_be_cancelled_and_purged(queue: TaskQueue) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode="debounce")
    async def task(n: int) -> None: ...

    first = await task.enqueue(1)
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    second = await task.enqueue(2)
    assert await second.cancel() is True
    third = await task.enqueue(3)
    assert await queue.purge("default") == 1
    assert (await second.status(), await third.status()) == ("cancelled", "unknown")
    fourth = await task.enqueue(4)
    assert (await worker.step(5))[1] == {}
    await worker.step(0, [(first.id, 1, "s", 0, b"", 0, 0)])
    assert list((await worker.step(5))[1]) == [fourth.id]


async def test_the_next_one_keeps_its_own_delay(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs = Runs()
    task = held(queue, runs, "debounce")
    await run_worker(queue)
    await task.enqueue(1)
    await until(lambda: runs.now, "it runs")
    late = await task.options(delay=60).enqueue(2)
    runs.release.set()
    await until(lambda: not runs.now, "the first has ended")
    assert await late.status() == "delayed"
    soon = await task.options(delay=0.01).enqueue(3)
    assert await soon.result(timeout=60) == 3
    assert (await late.status(), runs.started) == ("cancelled", [1, 3])


async def test_replace_takes_over_the_time_of_one_that_was_due_at_once(queue: TaskQueue) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode="replace")
    async def task(n: int) -> None: ...

    await task.enqueue(1)
    assert await (await task.options(delay=60).enqueue(2)).status() == "ready"
    assert await (await task.options(delay=60, unique_mode="debounce").enqueue(3)).status() == "delayed"


@pytest.mark.parametrize("mode", ["keep_existing", "replace", "debounce"])
async def test_a_call_may_hold_many_of_one_key(queue: TaskQueue, mode: UniqueMode) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode=mode)
    async def task(n: int) -> None: ...

    handles = await queue.enqueue_many([task.message(n) for n in range(100)])
    stats = await queue.queue_stats("default")
    assert stats.ready == 1
    if mode == "keep_existing":
        assert len({handle.id for handle in handles}) == 1
    else:
        assert [await handle.status() for handle in handles] == ["cancelled"] * 99 + ["ready"]


async def test_a_call_of_both_modes_is_settled_in_order(queue: TaskQueue) -> None:
    @queue.task(unique_key=lambda n: "k")
    async def task(n: int) -> None: ...

    before = await task.enqueue(0)
    replaces, keeps = await queue.enqueue_many([task.options(unique_mode="replace").message(1), task.message(2)])
    assert keeps.id == replaces.id != before.id
    assert await before.status() == "cancelled"


async def test_a_full_queue_accepts_calls_that_need_no_room(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[QueueOptions("default", max_length=1)])

    @queue.task(unique_key=lambda n: "k")
    async def task(n: int) -> None: ...

    first = await task.enqueue(1)
    assert (await task.enqueue(2)).id == first.id
    second = await task.options(unique_mode="replace").enqueue(3)
    assert (await first.status(), await second.status()) == ("cancelled", "ready")
    handles = await queue.enqueue_many([task.options(unique_mode="debounce").message(n) for n in range(3)])
    assert await handles[-1].status() == "ready"


@pytest.mark.parametrize("mode", ["keep_existing", "replace", "debounce"])
async def test_a_dead_letter_stays_while_another_task_has_its_key(
    queue: TaskQueue, mode: UniqueMode, caplog: pytest.LogCaptureFixture
) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode=mode)
    async def task(n: int) -> None: ...

    worker = RawWorker(queue, "w", lease_ms=60_000)
    dead = []
    for n in (1, 2):
        dead.append(await task.enqueue(n))
        await worker.step(1)
        await worker.step(0, [(dead[-1].id, 1, "f", 0, b"x", 0, FAILURE)])
    other = await task.enqueue(3)
    assert await queue.requeue_dead("default", [dead[0].id]) == 0
    assert f"task {dead[0].id} stays a dead letter: task {other.id} has its unique key" in caplog.text
    assert await queue.requeue_dead("default") == 0
    assert await other.cancel()
    # Of two tasks of one key, the older one comes back and holds the key.
    assert await queue.requeue_dead("default") == 1
    assert (await dead[0].status(), await dead[1].status()) == ("ready", "failed")
    assert (await task.options(unique_mode="keep_existing").enqueue(4)).id == dead[0].id


async def test_letters_that_stay_do_not_hide_those_behind_them(queue: TaskQueue) -> None:
    @queue.task
    async def task(n: int) -> None: ...

    worker = RawWorker(queue, "w", lease_ms=60_000)
    keyed = await queue.enqueue_many([task.options(unique_key=f"k{n % 700}").message(n) for n in range(700)])
    for _ in range(2):
        while claims := (await worker.step(1000))[1]:
            await worker.step(0, [(i, 1, "f", 0, b"x", 0, FAILURE) for i in claims])
        keyed += await queue.enqueue_many([task.options(unique_key=f"k{n}").message(n) for n in range(700)])
    plain = await task.enqueue(1)
    claims = {}
    while more := (await worker.step(1000))[1]:
        claims |= more
    await worker.step(
        0, [(plain.id, 1, "f", 0, b"x", 0, FAILURE), *[(i, 1, "n", 0, b"x", 0, 0) for i in claims if i != plain.id]]
    )
    assert await queue.requeue_dead("default") == 1
    assert await plain.status() == "ready"


async def test_a_failure_lets_the_next_one_in(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs = Runs()

    @queue.task(unique_key=lambda n: "k", unique_mode="replace", max_retries=0)
    async def task(n: int) -> int:
        await runs.one(n)
        raise ValueError("no")

    await run_worker(queue)
    first = await task.enqueue(1)
    await until(lambda: runs.now, "it runs")
    second = await task.enqueue(2)
    runs.release.set()
    for handle in (first, second):
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=60)
    assert (runs.started, runs.most) == ([1, 2], 1)
