"""At most one task of a unique key waits or runs."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import ConfigurationError, SerializationError, TaskCancelledError, TaskQueue
from tests.engine.conftest import RunWorker, until


async def test_a_second_task_of_the_key_is_the_first(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def echo(n: int) -> int:
        return n

    first = await echo.options(unique_key="k").enqueue(1)
    second = await echo.options(unique_key="k").enqueue(2)
    other = await echo.options(unique_key="other").enqueue(3)
    assert second.id == first.id != other.id
    assert (await queue.queue_stats("default")).ready == 2
    await run_worker(queue)
    assert await second.result(timeout=60) == 1


async def test_the_key_is_held_while_the_task_runs_and_retries_and_free_after(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    release = asyncio.Event()
    attempts = 0

    @queue.task(max_retries=1)
    async def flaky() -> int:
        nonlocal attempts
        attempts += 1
        await release.wait()
        if attempts == 1:
            raise ValueError("again")
        return attempts

    worker = await run_worker(queue)
    first = await flaky.options(unique_key="k").enqueue()
    await until(lambda: worker.slots.running, "it runs")
    assert (await flaky.options(unique_key="k").enqueue()).id == first.id
    release.set()
    assert await first.result(timeout=60) == 2
    assert (await flaky.options(unique_key="k").enqueue()).id != first.id


@pytest.mark.parametrize("ending", ["fails", "dies", "is cancelled", "expires", "is purged"])
async def test_every_ending_frees_the_key(queue: TaskQueue, run_worker: RunWorker, ending: str) -> None:
    @queue.task(max_retries=0)
    async def task() -> None:
        if ending == "fails":
            raise ValueError("no")

    first = await task.options(unique_key="k", expires=0.001 if ending == "expires" else None).enqueue()
    if ending == "is cancelled":
        assert await first.cancel()
    elif ending == "is purged":
        assert await queue.purge("default") == 1
    else:
        if ending == "dies":
            queue.registry._definitions.clear()
        await asyncio.sleep(0.01)
        await run_worker(queue)
        await until(lambda: _ended(queue), "it has ended")
    assert (await task.options(unique_key="k").enqueue()).id != first.id


async def _ended(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("default")).finished_total == 1


async def test_replace_takes_the_new_arguments_at_the_time_of_the_first(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def echo(n: int) -> int:
        return n

    first = await echo.options(unique_key="k", unique_mode="replace", delay=0.3).enqueue(1)
    second = await echo.options(unique_key="k", unique_mode="replace", delay=60).enqueue(2)
    assert second.id != first.id
    with pytest.raises(TaskCancelledError, match="replaced"):
        await first.result(timeout=60)
    await run_worker(queue)
    assert await second.result(timeout=60) == 2
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.delayed, stats.in_flight) == (0, 0, 0)


async def test_debounce_runs_once_after_the_last_call(queue: TaskQueue, run_worker: RunWorker) -> None:
    seen: list[int] = []

    @queue.task(unique_key="k", unique_mode="debounce", delay=5)
    async def save(n: int) -> None:
        seen.append(n)

    await run_worker(queue)
    handles = []
    for n in range(5):
        handles.append(await save.enqueue(n))
        await asyncio.sleep(0.1)
    await handles[-1].result(timeout=30)
    assert seen == [4]
    assert [await handle.status() for handle in handles] == ["cancelled"] * 4 + ["succeeded"]


async def test_a_running_task_is_not_replaced_but_followed(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task(unique_key=lambda n: "k", unique_mode="replace")
    async def hold(n: int) -> int:
        await release.wait()
        return n

    worker = await run_worker(queue, concurrency=1)
    first = await hold.enqueue(1)
    await until(lambda: worker.slots.running, "it runs")
    second = await hold.enqueue(2)
    release.set()
    assert (await first.result(timeout=60), await second.result(timeout=60)) == (1, 2)


async def test_keys_come_from_arguments(queue: TaskQueue) -> None:
    @queue.task(unique_key=lambda user, page: f"{user}")
    async def render(user: str, page: int) -> None: ...

    a, b, c = await queue.enqueue_many([render.message("u", 1), render.message("u", 2), render.message("v", page=1)])
    assert a.id == b.id != c.id

    @queue.task(unique_key=lambda: 7)  # type: ignore[arg-type, return-value]
    async def wrong() -> None: ...

    with pytest.raises(ConfigurationError, match="text of 1 to 512"):
        await wrong.enqueue()

    @queue.task(unique_key=lambda x: x["missing"])
    async def keyless(x: dict[str, int]) -> None: ...

    with pytest.raises(SerializationError, match="key function failed: KeyError"):
        await keyless.enqueue({})
    with pytest.raises(ConfigurationError, match="unique_mode='last'"):
        render.options(unique_key="k", unique_mode="last")  # type: ignore[arg-type]


async def test_many_producers_at_once_add_one(queue: TaskQueue) -> None:
    @queue.task
    async def task(n: int) -> None: ...

    handles = await asyncio.gather(*(task.options(unique_key="k").enqueue(n) for n in range(200)))
    assert len({handle.id for handle in handles}) == 1
    replaced = await asyncio.gather(
        *(task.options(unique_key="r", unique_mode="replace").enqueue(n) for n in range(20))
    )
    statuses = sorted([await handle.status() for handle in replaced])
    assert statuses == ["cancelled"] * 19 + ["ready"]
    assert (await queue.queue_stats("default")).ready == 2
