"""The all-in-one process of `TaskQueueBuilder`, while it runs."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import TaskQueue, TaskQueueBuilder
from taskfleet.embedded import autoscaling
from taskfleet.embedded.embedded_queue import EmbeddedQueue
from taskfleet.runtime import worker
from tests.engine.conftest import until
from tests.engine.shop.orders import tasks
from tests.engine.shop.orders.tasks import Ship, gates
from tests.engine.shop.prices import double
from tests.support.processes import Start, python_processes

SHOP = "tests.engine.shop"


async def test_it_runs_the_tasks_of_a_package(shared: TaskQueue) -> None:
    async with TaskQueueBuilder().initial_workers(2).auto_register_tasks(SHOP).build() as app:
        assert app.worker_count == 2
        assert await (await app.enqueue(Ship(order=7))).result(timeout=60) == "shipped 7"
        assert await (await app.enqueue(double.message(21))).result(timeout=60) == 42
    assert app.worker_count == 0


async def test_schedules_tick_in_it_when_asked_for(shared: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    await shared.add_schedule(name="often", every=1, task="double", args=[1], queue="prices")
    builder = TaskQueueBuilder().auto_register_tasks(SHOP)
    async with builder.build() as app:
        assert app.sessions.current().scheduler is None
    async with builder.with_scheduler().build():
        await until(lambda: _finished(shared, "prices"), "a tick has run")
    monkeypatch.setenv("TASK_QUEUE_SCHEDULER", "false")
    async with builder.build() as app:
        assert app.sessions.current().scheduler is None


async def _finished(queue: TaskQueue, name: str) -> bool:
    return (await queue.queue_stats(name)).finished_total > 0


async def test_it_can_be_run_and_stopped_again_and_again(shared: TaskQueue) -> None:
    app = TaskQueueBuilder().auto_register_tasks(SHOP).build()
    before = signal.getsignal(signal.SIGTERM)
    for n in range(2):
        running = asyncio.create_task(app.run())
        handle = await shared.enqueue(double.message(n))
        assert await handle.result(timeout=60) == 2 * n
        app.stop()
        await asyncio.wait_for(running, 60)
        assert signal.getsignal(signal.SIGTERM) is before


async def test_a_worker_that_ends_with_an_error_ends_the_process(
    shared: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = TaskQueueBuilder().initial_workers(2).auto_register_tasks(SHOP).build()
    running = asyncio.create_task(app.run())
    await until(lambda: app.worker_count == 2, "it runs")

    async def broken(_: worker.Worker) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(worker.Worker, "_turn", broken)
    monkeypatch.setattr(worker, "_MOST_FAULTS", 3)
    await shared.enqueue(double.message(1))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 60)
    assert "ended with an error" in caplog.text


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = autoscaling.Pace(interval=0.05, looks_up=2, looks_down=3, settle=0.1)
    monkeypatch.setattr(autoscaling, "Pace", lambda: pace)


def small(shared: TaskQueue, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> EmbeddedQueue:
    """Workers with two slots and no grace period, so that an interruption would show."""
    monkeypatch.setenv("TASKFLEET_WORKERS__MAX_CONCURRENT_TASKS", "2")
    monkeypatch.setenv("TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD", "0")
    return TaskQueueBuilder().initial_workers(1).auto_register_tasks(SHOP).with_autoscaler(**limits).build()


@pytest.mark.usefixtures("quickly")
async def test_workers_come_with_the_load_and_go_without_interrupting_anything(
    shared: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "taskfleet.autoscaler")
    gates["short"], gates["long"] = asyncio.Event(), asyncio.Event()
    app = small(shared, monkeypatch, max_workers=5, scale_up_count=2)
    async with app:
        # Many short tasks occupy all workers; two long ones wait among them.
        handles = await shared.enqueue_many([tasks.wait_for.message("short") for _ in range(80)])
        await until(lambda: app.worker_count == 5, "as many workers as there may be")
        long = await shared.enqueue_many([tasks.wait_for.message("long") for _ in range(2)])
        gates["short"].set()
        assert [await handle.result(timeout=60) for handle in handles] == [101] * 80
        await until(lambda: app.local_workers().active == 1, "all but one are told to end")
        assert [await handle.status() for handle in long] == ["running", "running"]
        gates["long"].set()
        assert [await handle.result(timeout=60) for handle in long] == [101, 101]  # first attempt, first delivery
        await until(lambda: app.worker_count == 1, "one is left")
    lines = [record.getMessage() for record in caplog.records if record.name == "taskfleet.autoscaler"]
    # The first worker may not have claimed its two tasks yet.
    assert re.match(
        r"1 -> 3 workers: (78|79|80) ready tasks are \1 for each of 1 workers, more than scale_up", lines[0]
    )
    assert lines[1].startswith("3 -> 5 workers: ")
    assert [line.split(":")[0] for line in lines[2:]] == [f"{n} -> {n - 1} workers" for n in (5, 4, 3, 2)]


@pytest.mark.usefixtures("quickly")
async def test_a_paused_queue_asks_for_no_workers(
    shared: TaskQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "taskfleet.autoscaler")
    await shared.pause("default")
    await shared.enqueue_many([tasks.nap.message(n, 0.0) for n in range(100)])
    async with small(shared, monkeypatch, max_workers=5) as app:
        await until(lambda: len(caplog.records) > 10, "it has looked ten times")
        assert app.worker_count == 1


@pytest.mark.usefixtures("quickly")
async def test_many_workers_share_one_process(shared: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run more tasks than the pool has connections."""
    async with small(shared, monkeypatch, max_workers=25, scale_up_count=25) as app:
        handles = await shared.enqueue_many([tasks.nap.message(n, 0.3) for n in range(300)])
        await until(lambda: app.worker_count == 25, "all are there")
        assert [await handle.result(timeout=60) for handle in handles] == list(range(300))
        await until(lambda: app.worker_count == 1, "they have gone")


# In a separate process.


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes(SHOP) as start:
        yield start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_it(shared: TaskQueue, start: Start, number: signal.Signals) -> None:
    process = start(TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD="6")
    short, long = await shared.enqueue_many([tasks.nap.message(1, 2.0), tasks.nap.message(2, 600.0)])

    async def begun() -> bool:
        # The short one has ended when this process did not look for as long as it takes.
        return await long.status() == "running" and await short.status() in ("running", "succeeded")

    await until(begun, "both run")
    process.send_signal(number)
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert await short.result(timeout=60) == 1
    assert await long.status() == "ready"
    assert await shared.broker.workers() == []


async def test_a_second_signal_ends_it_at_once(shared: TaskQueue, start: Start) -> None:
    process = start()
    await shared.enqueue_many([tasks.nap.message(1, 600.0)])
    await until(lambda: _in_flight(shared, 1), "it runs")
    process.send_signal(signal.SIGINT)
    await until(lambda: _draining(shared), "it drains")
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 20) == 1  # of a grace period of 30 s


async def _in_flight(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).in_flight == count


async def _draining(queue: TaskQueue) -> bool:
    states = {found.state for found in await queue.broker.workers()}
    return states == {"draining"}
