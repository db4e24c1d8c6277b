"""Eager mode: a task runs before the call that enqueues it returns."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import threading
from typing import Any

import pytest

from taskfleet import (
    CallNext,
    Middleware,
    Retry,
    SerializationError,
    TaskContext,
    TaskExecutionError,
    TaskQueue,
    TaskQueueError,
    chain,
    chord,
    current_task,
    group,
)
from taskfleet.testing import eager


@pytest.fixture
def app() -> TaskQueue:
    return TaskQueue("redis://127.0.0.1:1/0", queues=[{"name": "single", "concurrency": 1}])  # no server is there


async def test_arguments_and_results_travel_as_they_do_to_a_worker(app: TaskQueue) -> None:
    seen: list[Any] = []

    @app.task
    async def task(day: dt.date, numbers: list[int]) -> dt.date:
        seen.append((day, numbers))
        return day

    @app.task(max_retries=0)
    async def wrong() -> int:
        return object()  # type: ignore[return-value]

    given = [1]
    with eager(app):
        handle = await task.enqueue(dt.date(2026, 1, 2), given)
        assert seen == [(dt.date(2026, 1, 2), [1])]
        assert seen[0][1] is not given
        assert await handle.result(timeout=30) == dt.date(2026, 1, 2)
        with pytest.raises(SerializationError, match="numbers"):
            await task.enqueue(dt.date(2026, 1, 2), ["no"])  # type: ignore[list-item]
        with pytest.raises(TaskExecutionError, match="result"):
            await wrong.enqueue()
        many = await app.enqueue_many([task.message(dt.date(2026, 1, n), []) for n in range(1, 4)])
        assert [await one.status() for one in many] == ["succeeded"] * 3
        both = await app.enqueue(group(task.message(dt.date(2026, 1, 1), []), task.message(dt.date(2026, 1, 2), [])))
        assert await both.statuses() == ["succeeded"] * 2
    assert app.url == "redis://127.0.0.1:1/0"


async def test_nested_tasks_run_first_and_retries_take_no_time(app: TaskQueue) -> None:
    order: list[str] = []

    @app.task(retry=Retry.fixed(600))
    async def child() -> None:
        order.append(f"child {current_task().attempt}")
        if current_task().attempt < 3:
            raise ConnectionError

    @app.task(timeout=300)
    async def parent() -> None:
        await child.enqueue()
        order.append("parent")

    @app.task(queue="single")
    async def one_at_a_time(n: int) -> None:
        order.append(f"single {n}")
        if n:
            await one_at_a_time.enqueue(n - 1)
            order.append("goes on")

    with eager(app) as worker:
        await parent.enqueue()
        assert order == ["child 1", "child 2", "child 3", "parent"]
        order.clear()
        await one_at_a_time.enqueue(1)
        assert order == ["single 1", "goes on", "single 0"]  # no room for it before
        order.clear()
        await asyncio.gather(*(parent.enqueue() for _ in range(10)))
        assert order.count("parent") == 10
        delayed = await child.options(delay=60).enqueue()
        assert await delayed.status() == "delayed"
        worker.advance(60)
        await worker.run_until_idle(through_delays=True)
        assert await delayed.status() == "succeeded"


async def test_errors_reach_the_caller_or_are_kept(app: TaskQueue) -> None:
    @app.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("the disk is full")

    with eager(app):
        with pytest.raises(TaskExecutionError, match="the disk is full") as caught:
            await broken.enqueue()
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__.__traceback__ is not None
    with eager(app, raise_errors=False):
        assert await (await broken.enqueue()).status() == "failed"


async def test_a_task_that_enqueues_itself_without_end_is_an_error(app: TaskQueue) -> None:
    @app.task
    async def again() -> None:
        await again.enqueue()

    with eager(app), pytest.raises(TaskQueueError, match="tasks enqueue tasks 100 levels deep"):
        await again.enqueue()


async def test_a_task_that_hangs_is_named(app: TaskQueue) -> None:
    @app.task
    async def hang() -> None:
        loop = asyncio.get_running_loop()
        clock = loop.time
        loop.time = lambda: clock() + 60  # type: ignore[method-assign] # the limit ends now: the task runs by then
        await asyncio.Event().wait()

    with eager(app, timeout=30), pytest.raises(TimeoutError, match=r"still work for 1 hang in default \(running\)"):
        await hang.enqueue()


async def test_middleware_runs(app: TaskQueue) -> None:
    class Double(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            return 2 * await call_next()

    app.add_middleware(Double())

    @app.task
    async def one() -> int:
        return 1

    with eager(app):
        assert await (await one.enqueue()).result(timeout=30) == 2


def test_plain_functions_run_in_the_thread_that_waits(app: TaskQueue) -> None:
    transaction: contextvars.ContextVar[str] = contextvars.ContextVar("transaction", default="")
    local = threading.local()
    seen: list[Any] = []

    @app.task
    def write(n: int) -> int:
        seen.append((n, getattr(local, "transaction", None)))
        if n:
            write.enqueue_sync(n - 1)
        return n

    @app.task
    async def through_a_coroutine() -> None:
        await write.enqueue(0)

    with eager(app):
        for name in ("a", "b"):
            local.transaction = name
            transaction.set(name)
            assert write.enqueue_sync(2).result_sync(30) == 2
        through_a_coroutine.enqueue_sync()
    assert seen == [(2, "a"), (1, "a"), (0, "a"), (2, "b"), (1, "b"), (0, "b"), (0, "b")]


def test_threads_do_not_run_the_functions_of_others(app: TaskQueue) -> None:
    local = threading.local()
    seen: list[bool] = []

    @app.task
    def check(name: str) -> None:
        seen.append(local.name == name)

    def view(name: str) -> None:
        local.name = name
        for _ in range(10):
            check.enqueue_sync(name)

    with eager(app):
        threads = [threading.Thread(target=view, args=[str(n)]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 40


@pytest.mark.parametrize("place", ["first", "middle", "in a group", "before a callback", "callback"])
async def test_the_error_of_any_member_of_a_workflow_reaches_the_caller(app: TaskQueue, place: str) -> None:
    @app.task
    async def one() -> int:
        return 1

    @app.task
    async def after(n: int) -> int:
        return n

    @app.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(max_retries=0)
    async def breaks(given: object = None) -> int:
        raise ValueError("broken")

    good = one.message()
    workflow: Any = {
        "first": chain(breaks.message(), after.partial()),
        "middle": chain(good, breaks.partial(), after.partial()),
        "in a group": group(good, breaks.message(), one.message()),
        "before a callback": chord(group(good, breaks.message()), total.partial()),
        "callback": chord(group(good, one.message()), breaks.partial()),
    }[place]
    with eager(app):
        with pytest.raises(TaskExecutionError, match="broken") as caught:
            await app.enqueue(workflow)
        assert isinstance(caught.value.__cause__, ValueError)
    with eager(app, raise_errors=False):
        handle: Any = await app.enqueue(workflow)
        statuses = await handle.statuses() if place == "in a group" else [await handle.status()]
        assert set(statuses) <= {"succeeded", "failed", "cancelled"}
    with eager(app):
        fine = await app.enqueue(chain(one.message(), after.partial()))
        assert await fine.result(timeout=30) == 1
