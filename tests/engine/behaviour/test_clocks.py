"""The clock of Redis decides, even if the clocks of producers and workers are wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest

from taskfleet import BatchItem, Retry, TaskExecutionError, TaskQueue, chain
from taskfleet.protocol import envelope
from taskfleet.protocol.clock import ClockUnknownError, RedisClock
from taskfleet.testing import InMemoryBroker
from tests.engine.conftest import RunWorker, until
from tests.support import white_box

_true_time = time.time


@pytest.fixture(params=[600.0, -600.0])
def wrong_clock(request: pytest.FixtureRequest, queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> float:
    """The error of this machine's clock in seconds. The clock of the queues is right."""
    if isinstance(queue.broker, InMemoryBroker):
        queue.broker.store._clock = lambda: _true_time() * 1000
    monkeypatch.setattr(time, "time", lambda: _true_time() + request.param)
    return float(request.param)


def _settings(queue: TaskQueue, blob: bytes) -> dict[str, Any]:
    return envelope.decode(blob).settings


async def test_a_producer_and_a_worker_with_any_clock_agree_on_expiry(
    queue: TaskQueue, run_worker: RunWorker, wrong_clock: float
) -> None:
    @queue.task(expires=60)
    async def task(n: int) -> int:
        return n

    @queue.task
    async def gone() -> None: ...

    late = await gone.options(expires=0.001).enqueue()
    handles = [await task.enqueue(1), *await queue.enqueue_many([task.message(2), task.message(3)])]
    handles.append(await queue.enqueue(chain(task.message(4), task.message())))
    await asyncio.sleep(0.01)
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles] == [1, 2, 3, 4]
    await until(lambda: _is(late, "expired"), "it has expired")


async def _is(handle: Any, state: str) -> bool:
    return bool(await handle.status() == state)


async def test_stored_times_are_by_the_clock_of_redis(queue: TaskQueue, wrong_clock: float) -> None:
    @queue.task
    async def task() -> None: ...

    await task.options(expires=60).enqueue()
    await queue.enqueue_many([task.options(expires=60).message()])
    now = await white_box.now_ms(queue) / 1000
    for _, blob in await white_box.ready(queue):
        assert abs(_settings(queue, blob)["x"] - now - 60) < 60  # a clock that is wrong is so by 600 s


async def test_a_batch_expires_by_the_clock_of_redis(
    queue: TaskQueue, run_worker: RunWorker, wrong_clock: float
) -> None:
    @queue.batch_task(size=3, window_ms=10)
    async def batch(items: list[BatchItem]) -> list[int]:
        return [item.args[0] for item in items]

    handles = [await batch.options(expires=60).enqueue(n) for n in range(3)]
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles] == [0, 1, 2]


@pytest.mark.parametrize(("max_age", "attempts"), [(60, 3), (0.0001, 1)])
async def test_an_age_is_by_the_clock_of_redis(
    queue: TaskQueue, run_worker: RunWorker, wrong_clock: float, max_age: float, attempts: int
) -> None:
    ran: list[int] = []

    @queue.task(max_age=max_age, max_retries=2, retry=Retry.fixed(0.01))
    async def task() -> None:
        ran.append(1)
        await asyncio.sleep(0.01)
        raise ValueError("no")

    await run_worker(queue)
    with pytest.raises(TaskExecutionError):
        await (await task.enqueue()).result(timeout=60)
    assert len(ran) == attempts


async def test_delays_and_times_are_by_the_clock_of_redis(
    queue: TaskQueue, run_worker: RunWorker, wrong_clock: float
) -> None:
    @queue.task
    async def task(n: int) -> int:
        return n

    now = dt.datetime.fromtimestamp(await white_box.now_ms(queue) / 1000, dt.UTC)
    soon = await task.options(delay=0.05).enqueue(1)
    past = await task.options(eta=now - dt.timedelta(seconds=1)).enqueue(2)
    future = await task.options(eta=now + dt.timedelta(seconds=60)).enqueue(3)
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in (soon, past)] == [1, 2]
    assert await future.status() == "delayed"


async def test_letting_time_pass_expires_tasks_and_ages_them(run_worker: RunWorker) -> None:
    broker = InMemoryBroker()
    queue = TaskQueue(broker=broker)
    attempts: list[int] = []

    @queue.task
    async def task() -> int:
        return 1

    @queue.task(max_age=50, max_retries=5, retry=Retry.fixed(1))
    async def flaky() -> None:
        attempts.append(1)
        broker.advance(100)
        raise ValueError("no")

    gone, stays = await task.options(expires=60).enqueue(), await task.options(expires=600).enqueue()
    broker.advance(61)
    failing = await flaky.enqueue()
    await run_worker(queue)
    assert await stays.result(timeout=60) == 1
    assert await gone.status() == "expired"
    with pytest.raises(TaskExecutionError):
        await failing.result(timeout=60)
    assert len(attempts) == 1
    await queue.close()


async def test_a_clock_is_asked_when_it_was_not_heard_for_long() -> None:
    passed = 0.0
    asked: list[str] = []

    async def ask(queue: str) -> int:
        asked.append(queue)
        return 1_000_000

    clock = RedisClock(ask, lambda: passed)
    with pytest.raises(ClockUnknownError):
        clock.now_ms("q")
    await clock.ask("q")
    passed = 59.0
    assert clock.now_ms("q", within=60) == 1_059_000
    passed = 61.0
    with pytest.raises(ClockUnknownError):
        clock.now_ms("q", within=60)
    assert clock.now_ms("q") == 1_061_000
    clock.hear("q", 5_000_000)
    assert clock.now_ms("q", within=60) == 5_000_000
    assert asked == ["q"]
