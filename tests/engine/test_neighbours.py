"""No task affects another, unless it kills the process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import Middleware, TaskContext, TaskExecutionError, TaskHandle, TaskQueue, current_task
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.neighbours_app import MISCHIEF, REFUSED
from tests.support.processes import Start, python_processes


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.neighbours_app:queue") as start:
        yield start


def message(name: str, *args: Any) -> Any:
    from tests.engine import neighbours_app

    return getattr(neighbours_app, name).message(*args)


async def neighbours(queue: TaskQueue) -> list[TaskHandle[Any]]:
    return await queue.enqueue_many(
        [message(name, n) for n in range(3) for name in ("neighbour", "neighbour_in_thread")]
    )


async def as_if_alone(handles: list[TaskHandle[Any]]) -> None:
    assert [await handle.result(timeout=60) for handle in handles] == [[1, 1]] * len(handles)


@pytest.mark.parametrize("what", MISCHIEF)
async def test_a_task_that_harms_its_loop_does_not_affect_its_neighbours(
    shared: TaskQueue, start: Start, what: str
) -> None:
    handles = await neighbours(shared)
    other = await shared.enqueue(message("neighbour_with_children", 3))
    culprit = await shared.enqueue(message("mischief", what))
    worker = start("--concurrency", "20")
    await as_if_alone(handles)
    assert await other.result(timeout=60) == 1  # perhaps in a second run, which uses up no attempt
    with pytest.raises(TaskExecutionError) if what in REFUSED else contextlib.nullcontext():
        await culprit.result(timeout=60)
    await as_if_alone(await neighbours(shared))
    assert (await shared.queue_stats("default")).failed_total == int(what in REFUSED)
    assert worker.poll() is None
    if what != "handlers of signals":
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


async def test_plain_tasks_use_the_queue_in_loops_of_their_own(shared: TaskQueue, start: Start) -> None:
    worker = start("--concurrency", "40")
    asking = await shared.enqueue_many([message("asks_in_a_loop_of_its_own", n) for n in range(60)])
    handles = await neighbours(shared)
    children = [shared.handle(await handle.result(timeout=60)) for handle in asking]
    await as_if_alone([*handles, *children])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


async def test_schedules_tick_after_all_tasks_were_cancelled(shared: TaskQueue, start: Start) -> None:
    start("--concurrency", "4")
    await (await shared.enqueue(message("mischief", "cancelling all tasks"))).result(timeout=60)
    await shared.add_schedule(name="often", every=1, task="neighbour", args=[1], queue="default")
    await until(lambda: _enqueued(shared, 2), "it ticks")


async def _enqueued(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).enqueued_total >= count


@pytest.mark.parametrize("what", ["sys.exit", "KeyboardInterrupt", "a loop of its own"])
async def test_a_task_that_harms_its_thread_does_not_affect_its_neighbours(
    shared: TaskQueue, start: Start, what: str
) -> None:
    handles = await neighbours(shared)
    culprit = await shared.enqueue(message("mischief_in_thread", what))
    worker = start("--concurrency", "20")
    await as_if_alone(handles)
    with pytest.raises(TaskExecutionError, match=r"SystemExit|KeyboardInterrupt"):
        await culprit.result(timeout=25)
    assert worker.poll() is None


@pytest.mark.parametrize("what", ["sys.exit in a child task", "KeyboardInterrupt in a callback", "sys.exit in a timer"])
async def test_a_task_that_ends_the_loop_of_an_application_hands_back_its_neighbours(
    shared: TaskQueue, what: str
) -> None:
    handles = await neighbours(shared)
    culprit = await shared.enqueue(message("mischief", what))
    with python_processes("tests.engine.neighbours_app") as start:
        process = start("60", TASKFLEET_WORKERS__MAX_CONCURRENT_TASKS="20")
        assert await asyncio.to_thread(process.wait, 60) != 0
        # Handed back at once and not left to their leases; none has failed.
        stats = await shared.queue_stats("default")
        assert (stats.in_flight, stats.failed_total, stats.dead) == (0, 0, 0)
        assert await culprit.cancel()
        start("60", TASKFLEET_WORKERS__MAX_CONCURRENT_TASKS="20")
        assert [(await handle.result(timeout=60))[0] for handle in handles] == [1] * len(handles)


# In this process.


@pytest.fixture
def sleeper(queue: TaskQueue) -> Any:
    @queue.task(max_retries=0)
    async def sleeper(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return current_task().attempt

    return sleeper


def task_of(worker: Worker, handle: TaskHandle[Any]) -> asyncio.Task[None]:
    task = worker.slots.running[handle.id].task
    assert task is not None
    return task


async def test_a_cancellation_from_outside_is_no_failure_of_the_task(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task(max_retries=0)
    async def waits() -> int:
        await release.wait()
        return current_task().attempt

    worker = await run_worker(queue)
    handle = await waits.enqueue()
    await until(lambda: handle.id in worker.slots.running, "it runs")
    task_of(worker, handle).cancel()
    release.set()
    assert await handle.result(timeout=25) == 1


async def test_something_that_always_cancels_a_task_makes_it_fail_in_the_end(
    queue: TaskQueue, run_worker: RunWorker, sleeper: Any
) -> None:
    worker = await run_worker(queue)
    handle = await sleeper.enqueue(60)

    async def cancelled_again() -> bool:
        if (job := worker.slots.running.get(handle.id)) is not None and job.task is not None:
            job.task.cancel()
        return await handle.status() == "failed"

    await until(cancelled_again, "it has failed")


async def test_a_cancellation_of_the_tasks_own_making_is_its_failure(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def raises() -> None:
        raise asyncio.CancelledError

    @queue.task(max_retries=0)
    async def awaits_what_is_cancelled() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    @queue.task(max_retries=0)
    async def cancels_itself() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await asyncio.sleep(1)

    @queue.task(max_retries=0)
    async def cancelled_by_its_child() -> None:
        current = asyncio.current_task()
        assert current is not None

        async def child() -> None:
            current.cancel()

        await asyncio.gather(child(), asyncio.sleep(1))

    @queue.task(max_retries=0)
    async def times_out() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)
        except TimeoutError:
            return "in time"
        return "never"

    await run_worker(queue)
    for task in (raises, awaits_what_is_cancelled, cancels_itself, cancelled_by_its_child):
        with pytest.raises(TaskExecutionError, match="CancelledError"):
            await (await task.enqueue()).result(timeout=25)  # type: ignore[attr-defined]
    assert await (await times_out.enqueue()).result(timeout=25) == "in time"


async def test_a_task_can_cancel_neither_another_nor_its_worker(
    queue: TaskQueue, run_worker: RunWorker, sleeper: Any
) -> None:
    mine = asyncio.current_task()
    release = asyncio.Event()

    @queue.task(max_retries=0)
    async def waits() -> int:
        await release.wait()
        return current_task().attempt

    @queue.task(max_retries=0)
    async def cancels_all() -> int:
        others = asyncio.all_tasks() - {asyncio.current_task(), mine}
        # The fixture's asyncio task that runs the worker belongs to the test, not to the worker.
        others = {task for task in others if type(task) is not asyncio.Task}
        return sum(task.cancel() for task in others)

    worker = await run_worker(queue, concurrency=4)
    handle = await waits.enqueue()
    await until(lambda: handle.id in worker.slots.running, "it runs")
    listening = set(worker.listeners.tasks)
    assert await (await cancels_all.enqueue()).result(timeout=25) == 0
    release.set()
    assert await handle.result(timeout=25) == 1
    assert listening & worker.listeners.tasks
    assert await (await sleeper.enqueue(0)).result(timeout=25) == 1


async def test_a_worker_whose_run_is_cancelled_hands_back_its_tasks(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(slots=2)
    release = asyncio.Event()

    @queue.task(max_retries=0)
    async def waits() -> int:
        await release.wait()
        return current_task().attempt

    worker = Worker(queue, name="cancelled")
    running = asyncio.create_task(worker.run())
    handles = await queue.enqueue_many([waits.message() for _ in range(6)])
    await until(lambda: len(worker.slots.running) == 2, "two run")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.failed_total) == (6, 0, 0)
    release.set()
    await run_worker(queue)
    assert [await handle.result(timeout=25) for handle in handles] == [1] * 6


class Exits(Middleware):
    async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
        raise SystemExit(9)


async def test_a_hook_that_exits_ends_nothing(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(middleware=[Exits()])

    @queue.task(max_retries=0)
    async def fails() -> None:
        raise ValueError

    @queue.task
    async def works() -> int:
        return 1

    await run_worker(queue)
    with pytest.raises(TaskExecutionError):
        await (await fails.enqueue()).result(timeout=25)
    assert await (await works.enqueue()).result(timeout=25) == 1
