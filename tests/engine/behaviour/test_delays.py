"""A delayed task runs neither before its time nor much later."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from taskfleet import TaskExecutionError, TaskQueue, group
from tests.engine.conftest import RunWorker


async def test_a_delayed_task_is_never_early_and_hardly_late(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def when() -> float:
        return asyncio.get_running_loop().time()

    await run_worker(queue)
    loop = asyncio.get_running_loop()
    assert await (await when.options(delay=60).enqueue()).status() == "delayed"
    late: list[float] = []
    while len(late) < 40 and min(late, default=1.0) > 0.1:  # one of them is on time, however busy the machine is
        began = loop.time()
        handle = await when.options(delay=0.3).enqueue()
        late.append(await handle.result(timeout=60) - began - 0.3)
    assert min(late) >= 0
    assert min(late) <= 0.1
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.2)
    later = await when.options(eta=eta).enqueue()
    await later.result(timeout=60)
    assert dt.datetime.now(dt.UTC) >= eta


async def test_a_delay_of_zero_overrides_the_delay_of_the_decorator(queue: TaskQueue) -> None:
    @queue.task(delay=60)
    async def later() -> None: ...

    assert await (await later.enqueue()).status() == "delayed"
    assert await (await later.options(delay=0).enqueue()).status() == "ready"
    assert await (await later.options(delay=dt.timedelta(0), result_ttl=5).enqueue()).status() == "ready"
    assert await (await queue.schedule(later.message(), delay=0)).status() == "ready"
    (many,) = await queue.enqueue_many([later.options(delay=0).message()])
    assert await many.status() == "ready"
    eta = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    assert await (await later.options(delay=0, eta=eta).enqueue()).status() == "ready"
    end = await queue.enqueue(group(later.message(), later.options(delay=0).message()))
    assert await end.statuses() == ["delayed", "ready"]


async def test_an_expired_task_does_not_run(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran = False

    @queue.task
    async def task() -> None:
        nonlocal ran
        ran = True

    handle = await task.options(expires=0.01).enqueue()
    await asyncio.sleep(0.05)
    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="expired"):
        await handle.result(timeout=60)
    assert await handle.status() == "expired"
    assert not ran


async def test_more_than_a_script_can_hold_at_once_become_due_together(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.options(delay=0.001).message() for _ in range(9000)])
    await asyncio.sleep(0.01)
    options, claimed = queue.application.options_of("default"), 0
    while claims := (await queue.broker.step("default", options, "w", 10_000, [])).claims:
        claimed += len(claims)
    assert claimed == 9000
