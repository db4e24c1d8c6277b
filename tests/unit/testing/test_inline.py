"""Queues in memory, as used by tests of an application."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import AsyncIterator

import pytest

from taskfleet import (
    ConfigurationError,
    RateLimit,
    Retry,
    RetryLater,
    TaskExecutionError,
    TaskQueue,
    TaskTimeoutError,
    chord,
    current_task,
    group,
)
from taskfleet.testing import EnqueuedTask, InlineWorker, InMemoryBroker, in_memory


def standing_still() -> float:
    """A clock that only `advance` moves: a machine that stalls for seconds makes no task due and expires no result."""
    return 1_000_000.0


@pytest.fixture
async def queue() -> AsyncIterator[TaskQueue]:
    async with TaskQueue(broker=InMemoryBroker(clock=standing_still)) as queue:
        yield queue


def pass_real_time(seconds: float) -> None:
    """Let the limits of the running event loop end so much earlier.

    A task that calls it runs already: no stall of the machine can end the limit before that.
    """
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + seconds  # type: ignore[method-assign]


async def test_enqueued_tasks_can_be_inspected_and_then_run(queue: TaskQueue) -> None:
    sent: list[str] = []

    @queue.task
    async def send(to: str, *, when: dt.date, copies: list[int]) -> None:
        sent.append(to)

    @queue.task(queue="other")
    async def note() -> None: ...

    worker = InlineWorker(queue)
    handle = await send.enqueue("a@b.c", when=dt.date(2026, 1, 2), copies=[1])
    await note.enqueue()
    expected = EnqueuedTask(handle.id, "send", "default", ["a@b.c"], {"when": "2026-01-02", "copies": [1]})
    assert worker.enqueued("send") == worker.enqueued(send) == [expected]
    assert [task.name for task in worker.enqueued()] == ["send", "note"]
    assert not sent
    assert await worker.run_until_idle() == 2
    assert sent == ["a@b.c"]
    assert await worker.run_until_idle() == 0
    assert worker.enqueued(send) == [expected]  # in any state


async def test_tasks_that_tasks_enqueue_run_too_in_any_queue(queue: TaskQueue) -> None:
    order: list[str] = []

    @queue.task
    async def first() -> None:
        order.append("first")
        await second.options(queue="never-seen-before").enqueue()

    @queue.task
    def second() -> None:
        order.append(f"second in {current_task().queue}")
        assert threading.current_thread() is not threading.main_thread()

    await first.enqueue()
    assert await InlineWorker(queue).run_until_idle() == 2
    assert order == ["first", "second in never-seen-before"]


async def test_delays_and_retries_wait_until_time_is_let_pass(queue: TaskQueue) -> None:
    attempts: list[int] = []

    @queue.task(max_retries=2, retry=Retry.fixed(3600))
    async def flaky() -> str:
        attempts.append(current_task().attempt)
        if len(attempts) < 3:
            raise ConnectionError("again")
        return "done"

    worker = InlineWorker(queue)
    handle = await flaky.options(delay=86_400).enqueue()
    assert await worker.run_until_idle() == 0
    assert attempts == []
    worker.advance(86_399)
    await worker.run_until_idle()
    assert await handle.status() == "delayed"
    worker.advance(1)
    await worker.run_until_idle()
    assert (attempts, await handle.status()) == ([1], "retrying")
    began = time.monotonic()
    assert await worker.run_until_idle(through_delays=True) == 1
    assert attempts == [1, 2, 3]
    assert await handle.result(timeout=30) == "done"
    assert time.monotonic() - began < 30


async def test_a_worker_that_runs_notices_that_time_has_passed(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> int:
        return 1

    await queue.start_workers(1)
    handle = await task.options(delay=1000).enqueue()
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=0.1)
    assert isinstance(queue.broker, InMemoryBroker)
    queue.broker.advance(1000)
    assert await handle.result(timeout=30) == 1


async def test_time_that_passes_takes_no_lease_from_a_running_task(queue: TaskQueue) -> None:
    release, started = asyncio.Event(), asyncio.Event()
    runs = 0

    @queue.task(timeout=None)
    async def hold() -> None:
        nonlocal runs
        runs += 1
        started.set()
        await release.wait()

    await hold.enqueue()
    worker = InlineWorker(queue)
    running = asyncio.create_task(worker.run_until_idle())
    await started.wait()
    worker.advance(3600)
    await asyncio.sleep(0.1)
    release.set()
    assert await running == 1
    assert runs == 1


async def test_execute_gives_the_result_or_raises(queue: TaskQueue) -> None:
    @queue.task(max_retries=1, retry=Retry.fixed(600))
    async def divide(a: int, b: int) -> float:
        return a / b

    @queue.task
    async def total(numbers: list[float]) -> float:
        return sum(numbers)

    worker = InlineWorker(queue)
    assert await worker.execute(divide.message(6, 3)) == 2.0
    with pytest.raises(TaskExecutionError, match="ZeroDivisionError"):
        await worker.execute(divide.message(1, 0))
    assert await worker.execute(chord([divide.message(n, 1) for n in (1, 2)], total.message())) == 3.0


@pytest.mark.parametrize("unrelated", ["before", "after", "both"])
async def test_a_result_is_taken_before_the_time_of_other_tasks_passes(queue: TaskQueue, unrelated: str) -> None:
    @queue.task(result_ttl=1, retry=Retry.fixed(600))
    async def short() -> int:
        if current_task().attempt == 1:
            raise ValueError("again")
        return 4

    @queue.task
    async def later() -> None: ...

    worker = InlineWorker(queue)
    if unrelated in ("before", "both"):
        await later.options(delay=3600).enqueue()
    if unrelated in ("after", "both"):
        await later.options(delay=30).enqueue()
    assert await worker.execute(short.message()) == 4
    assert await worker.execute(group(short.message(), short.message())) == (4, 4)


async def test_a_task_with_a_max_age_gives_up_its_retries_when_that_time_is_over(queue: TaskQueue) -> None:
    runs: list[int] = []

    @queue.task(max_retries=100, max_age=1000, retry=Retry.fixed(300))
    async def broken() -> None:
        runs.append(current_task().attempt)
        raise ValueError("no")

    worker = InlineWorker(queue)
    handle = await broken.enqueue()
    await worker.run_until_idle()
    worker.advance(300)
    await worker.run_until_idle()
    assert (runs, await handle.status()) == ([1, 2], "retrying")
    worker.advance(600)  # in one leap: one run, at 900 s
    await worker.run_until_idle()
    assert (runs, await handle.status()) == ([1, 2, 3], "retrying")
    worker.advance(300)
    await worker.run_until_idle()
    assert (runs, await handle.status()) == ([1, 2, 3, 4], "failed")


async def test_errors_are_raised_when_asked_for(queue: TaskQueue) -> None:
    @queue.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("the disk is full")

    worker = InlineWorker(queue)
    await broken.enqueue()
    assert await worker.run_until_idle() == 1
    await broken.enqueue()
    with pytest.raises(TaskExecutionError, match="ValueError: the disk is full") as caught:
        await worker.run_until_idle(raise_errors=True)
    assert 'raise ValueError("the disk is full")' in caught.value.traceback


async def test_limits_hold_and_their_time_can_be_skipped() -> None:
    queue = TaskQueue(
        broker=InMemoryBroker(clock=standing_still),
        queues=[{"name": "default", "rate_limit_per_key": RateLimit(1 / 3600, 1)}],
    )

    @queue.task(limit_key="k")
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(4)])
    worker = InlineWorker(queue)
    began = worker.now
    assert await worker.run_until_idle() == 4
    assert 3 * 3600 <= (worker.now - began).total_seconds() < 3 * 3600 + 10


async def test_a_task_that_never_ends_is_named(queue: TaskQueue) -> None:
    @queue.task(timeout=None)
    async def endless() -> None:
        pass_real_time(60)
        await asyncio.Event().wait()

    @queue.task(always_retry=(RetryLater,))
    async def again() -> None:
        if current_task().attempt == 3:
            pass_real_time(60)
        raise RetryLater(60)

    worker = InlineWorker(queue)
    handle = await again.enqueue()
    with pytest.raises(
        TimeoutError,
        match=r"after 30 s \(\d+ s by the moved clock\) there is still work for 1 again in default \(",
    ):
        await worker.run_until_idle(through_delays=True, timeout=30)
    assert await handle.cancel()
    await endless.enqueue()
    with pytest.raises(TimeoutError, match=r"for 1 endless in default \(running\)"):
        await worker.run_until_idle(timeout=30)


async def test_a_paused_queue_is_idle(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await task.enqueue()
    await queue.pause("default")
    worker = InlineWorker(queue)
    assert await worker.run_until_idle(through_delays=True) == 0
    await queue.resume("default")
    assert await worker.run_until_idle() == 1


async def test_queues_of_one_name_are_one_in_this_process_and_without_a_name_none_is() -> None:
    one, other, nameless, another = (TaskQueue(url) for url in ["memory://shop"] * 2 + ["memory://"] * 2)

    @one.task
    async def task() -> None: ...

    @nameless.task(name="task")
    async def own() -> None: ...

    await task.enqueue()
    await own.enqueue()
    await own.enqueue()
    sizes = [(await queue.queue_stats("default")).ready for queue in (one, other, nameless, another)]
    assert sizes == [1, 1, 2, 0]
    assert isinstance(one.broker, InMemoryBroker)
    one.broker.forget()
    for bad in ("memory:", "memory:shop", "memory://shop/1"):
        with pytest.raises(ConfigurationError, match="no address of a memory broker"):
            TaskQueue(bad)


def test_two_loops_and_a_thread_share_a_memory() -> None:
    queue = TaskQueue("memory://two-loops")
    seen: list[int] = []

    @queue.task
    async def task(n: int) -> None:
        seen.append(n)

    async def send(n: int) -> None:
        await task.enqueue(n)

    async def work() -> None:
        await InlineWorker(queue).run_until_idle()

    asyncio.run(send(1))
    thread = threading.Thread(target=lambda: asyncio.run(send_elsewhere()))

    async def send_elsewhere() -> None:
        other = TaskQueue("memory://two-loops")
        message = task.message(2)
        await other.enqueue_many([message])

    thread.start()
    thread.join()
    asyncio.run(work())
    assert seen == [1, 2]
    assert isinstance(queue.broker, InMemoryBroker)
    queue.broker.forget()


async def test_a_queue_in_redis_is_in_memory_for_the_time_of_a_block() -> None:
    app = TaskQueue("redis://127.0.0.1:1/0", result_ttl=60)  # no server listens there

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    with pytest.raises(ConfigurationError, match=r"needs a queue in memory, not at redis://127\.0\.0\.1:1/0"):
        InlineWorker(app)
    before = app.broker
    with in_memory(app) as worker:
        handle = await double.enqueue(4)
        assert await worker.run_until_idle() == 1
        assert await handle.result(timeout=30) == 8
        assert await app.health_check()
        with in_memory(app) as inner:
            assert inner.enqueued() == []
        assert len(worker.enqueued()) == 1
    assert app.broker is before
    assert app.url == "redis://127.0.0.1:1/0"


async def test_the_clock_can_be_the_tests_own() -> None:
    now = 1_000_000.0
    queue = TaskQueue(broker=InMemoryBroker(clock=lambda: now))

    @queue.task
    async def task() -> None: ...

    await task.enqueue()
    now += 2500
    assert (await queue.queue_stats("default")).oldest_age_seconds == 2.5


async def test_an_assertion_finds_arguments_however_they_were_given(queue: TaskQueue) -> None:
    @queue.task
    async def send(to: str, when: dt.date, copies: int = 1) -> None: ...

    @queue.task(queue="other")
    async def note() -> None: ...

    worker = InlineWorker(queue)
    handle = await send.options(delay=60).enqueue("a@b.c", when=dt.date(2026, 1, 2))
    for args, kwargs in [
        (["a@b.c", dt.date(2026, 1, 2)], None),
        (["a@b.c", "2026-01-02"], None),
        (["a@b.c"], {"when": dt.date(2026, 1, 2)}),
        (None, {"to": "a@b.c"}),
    ]:
        assert worker.assert_enqueued(send, args=args, kwargs=kwargs).id == handle.id
    worker.assert_enqueued("send", queue="default", delay=dt.timedelta(minutes=1), within=61, times=1)
    worker.assert_not_enqueued(note)
    worker.assert_not_enqueued(send, within=50)
    worker.assert_not_enqueued(send, args=["a@b.c"])  # `args` alone are all of them
    worker.assert_not_enqueued(send, kwargs={"copies": 1})  # it was not given
    with pytest.raises(AssertionError) as caught:
        worker.assert_enqueued(send, args=["x@y.z", dt.date(2026, 1, 2)], queue="other")
    assert str(caught.value) == (
        "expected a task send('x@y.z', datetime.date(2026, 1, 2)) in other, found 0; enqueued:\n"
        "  send('a@b.c', when='2026-01-02') in default, due 60 s later"
    )
    with pytest.raises(AssertionError, match="expected no task send"):
        worker.assert_not_enqueued(send)
    with pytest.raises(ConfigurationError, match="is one text"):
        worker.assert_enqueued(send, args="a@b.c")
