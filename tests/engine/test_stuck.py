"""Handlers that cannot be stopped: their outcome is recorded, their slot stays taken, and too many end the worker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from taskfleet import Depends, Middleware, Retry, TaskExecutionError, TaskQueue, TaskTimeoutError, current_task
from taskfleet.process import metrics
from taskfleet.process.exposition import exposition
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.ports import free_port
from tests.support.processes import Start, python_processes

NOTICE = 0.3


async def _stubborn(release: asyncio.Event) -> None:
    while not release.is_set():
        with contextlib.suppress(BaseException):
            await asyncio.wait_for(release.wait(), 60)


async def test_a_swallowed_cancellation_keeps_its_slot_and_not_its_end(
    queue: TaskQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    release = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=0)
    async def stubborn() -> None:
        await _stubborn(release)

    @queue.task
    async def quick() -> int:
        return 1

    worker = await run_worker(queue, concurrency=4, notice=NOTICE)
    handle = await stubborn.enqueue()
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=25)
    assert await handle.status() == "failed"
    assert (len(worker.stopping), worker.slots.usable, len(worker.slots.running)) == (1, 3, 0)
    assert worker.heartbeat.fields().stuck == 1
    assert "taskfleet_stuck_slots 1.0" in exposition(metrics.WorkerCollector.of(worker))[0].decode()
    assert handle.id in caplog.text
    assert "cannot be stopped" in caplog.text
    assert await (await quick.enqueue()).result(timeout=25) == 1
    assert worker.health.alive
    release.set()
    await until(lambda: worker.slots.usable == 4, "the slot is back")
    assert "has ended after all" in caplog.text


async def test_a_handler_that_swallows_once_is_asked_again(queue: TaskQueue, run_worker: RunWorker) -> None:
    ended = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=0)
    async def once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    worker = await run_worker(queue, notice=NOTICE)
    with pytest.raises(TaskTimeoutError):
        await (await once.enqueue()).result(timeout=25)
    await asyncio.wait_for(ended.wait(), 25)
    await until(lambda: worker.slots.usable == worker.slots.total, "its slot is free")
    assert not len(worker.stopping)


async def test_a_stuck_run_is_retried_and_both_may_go_on(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=1, retry=Retry.fixed(0))
    async def at_first() -> int:
        if current_task().attempt == 1:
            await _stubborn(release)
        return current_task().attempt

    worker = await run_worker(queue, notice=NOTICE)
    assert await (await at_first.enqueue()).result(timeout=25) == 2
    assert len(worker.stopping) == 1
    release.set()
    await until(lambda: not len(worker.stopping), "it has ended")
    stats = await queue.queue_stats("default")
    assert (stats.finished_total, stats.in_flight) == (1, 0)


async def test_a_stuck_run_that_is_cancelled_is_cancelled(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task(timeout=None)
    async def stubborn() -> None:
        await _stubborn(release)

    worker = await run_worker(queue, notice=NOTICE)
    handle = await stubborn.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    assert await handle.cancel()
    await until(lambda: _is(handle, "cancelled"), "it is cancelled")
    assert len(worker.stopping) == 1
    release.set()


async def _is(handle: Any, status: str) -> bool:
    return await handle.status() == status


async def test_threads_in_c_leave_threads_for_the_other_slots(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = threading.Event()
    attempts: list[int] = []

    @queue.task(timeout=0.1, max_retries=0)
    def in_c() -> None:
        release.wait(60)  # cannot be interrupted before it returns

    @queue.task(timeout=30, max_retries=3)
    def quick() -> None:
        attempts.append(current_task().attempt)

    worker = await run_worker(queue, concurrency=4, notice=NOTICE)
    blocked = [await in_c.enqueue()]
    with pytest.raises(TaskTimeoutError):
        await blocked[0].result(timeout=25)
    for handle in [await quick.enqueue() for _ in range(4)]:
        await handle.result(timeout=25)
    assert attempts == [1] * 4
    assert worker.slots.usable == 3
    release.set()
    await until(lambda: worker.slots.usable == 4, "the slot is back")


async def test_a_thread_that_swallows_its_interruption_is_interrupted_again(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    swallowed: list[str] = []

    @queue.task(timeout=0.1, max_retries=0)
    def swallows() -> None:
        for _ in range(2):
            try:
                while True:
                    time.sleep(0.005)
            except BaseException as error:
                swallowed.append(type(error).__name__)

    worker = await run_worker(queue, notice=NOTICE)
    with pytest.raises(TaskTimeoutError):
        await (await swallows.enqueue()).result(timeout=25)
    await until(lambda: len(swallowed) == 2, "it was interrupted twice")
    await until(lambda: not worker.slots.running and worker.slots.usable == worker.slots.total, "its slot is free")


async def test_threads_are_used_again_and_survive_their_interruptions(queue: TaskQueue, run_worker: RunWorker) -> None:
    names: set[str] = set()

    @queue.task(timeout=0.02, max_retries=0)
    def slow() -> None:
        while True:
            time.sleep(0.001)

    @queue.task
    def quick() -> None:
        names.add(threading.current_thread().name)

    await run_worker(queue, concurrency=2, notice=5.0)
    for _ in range(20):
        with pytest.raises(TaskTimeoutError):
            await (await slow.enqueue()).result(timeout=25)
        await (await quick.enqueue()).result(timeout=25)
    names.clear()
    for _ in range(20):
        await (await quick.enqueue()).result(timeout=25)
    assert len(names) <= 2


async def test_a_stuck_batch_gives_its_items_up(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()
    runs: list[list[int]] = []

    @queue.batch_task(size=2, window_ms=1000, timeout=0.1, max_retries=1, retry=Retry.fixed(0))
    async def many(items: list[Any]) -> list[int]:
        runs.append([item.context.attempt for item in items])
        if len(runs) == 1:
            await _stubborn(release)
        return [item.args[0] for item in items]

    worker = await run_worker(queue, notice=NOTICE)
    handles = await queue.enqueue_many([many.message(n) for n in range(2)])
    assert [await handle.result(timeout=25) for handle in handles] == [0, 1]
    assert runs == [[1, 1], [2, 2]]
    release.set()
    await until(lambda: not len(worker.stopping), "it has ended")
    assert (await queue.queue_stats("default")).finished_total == 2


_held_back = asyncio.Event()


async def _hangs_at_its_end() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await _stubborn(_held_back)


class _Swallows(Middleware):
    def __init__(self, release: asyncio.Event) -> None:
        self._release = release

    async def execute(self, task: Any, call_next: Any) -> Any:
        try:
            return await call_next()
        except BaseException:
            await _stubborn(self._release)


async def test_stuck_code_around_a_handler_keeps_its_slot_too(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()
    queue = make_queue(middleware=[_Swallows(release)])

    @queue.task(timeout=0.1, max_retries=0)
    async def plain() -> None:
        await asyncio.sleep(60)

    @queue.task(timeout=0.1, max_retries=0)
    async def depends(number: Annotated[int, Depends(_hangs_at_its_end)]) -> None:
        pass

    worker = await run_worker(queue, notice=NOTICE)
    for task in (plain, depends):
        with pytest.raises(TaskTimeoutError):
            await (await task.enqueue()).result(timeout=25)
    assert len(worker.stopping) == 2
    release.set()
    _held_back.set()
    await until(lambda: worker.slots.usable == worker.slots.total, "the slots are back")


async def test_a_worker_with_too_many_of_them_is_unhealthy_and_leaves(
    queue: TaskQueue, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=0)
    async def stubborn() -> None:
        await _stubborn(release)

    worker = Worker(queue, concurrency=4, notice=NOTICE)
    running = asyncio.create_task(worker.run())
    await queue.enqueue_many([stubborn.message() for _ in range(3)])
    await asyncio.wait_for(running, 60)
    assert "3 of 4 slots" in worker.health.unhealthy
    assert not worker.health.ready
    assert "is unhealthy and leaves" in caplog.text
    assert "3 handlers could not be stopped" in caplog.text
    assert "nothing held" not in caplog.text
    assert not worker.held
    release.set()
    await until(lambda: not len(worker.stopping), "they have ended")


async def test_workers_beside_the_application_tell_it(queue: TaskQueue) -> None:
    release = asyncio.Event()
    told: list[BaseException] = []

    @queue.task(timeout=0.1, max_retries=0)
    async def stubborn() -> None:
        await _stubborn(release)

    await queue.start_workers(1)
    workers = queue.local_workers()
    workers.on_failure = told.append
    for worker in workers._active:
        worker.slots.total = worker.slots.usable = 1
        worker.stopping._notice = NOTICE
    await stubborn.enqueue()
    await until(lambda: told, "it is told")
    assert "cannot be stopped" in str(told[0])
    release.set()


async def test_a_stuck_handler_can_be_cancelled_at_the_end_of_its_loop(queue: TaskQueue) -> None:
    release = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=0)
    async def stubborn() -> None:
        await _stubborn(release)

    worker = Worker(queue, concurrency=1, notice=NOTICE)
    running = asyncio.create_task(worker.run())
    await stubborn.enqueue()
    await asyncio.wait_for(running, 60)
    (task,) = worker.stopping._stuck
    task.cancel()  # as asyncio.run() does with all remaining tasks
    release.set()
    await until(lambda: not len(worker.stopping), "it has ended")


# In separate processes.


@pytest.fixture
def shared(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    """The queue of tests/engine/stuck_app.py, under this test's prefix."""
    queue = make_queue()
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    monkeypatch.setenv("TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD", "0.5")
    return queue


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.stuck_app:queue") as start:
        yield start


def _message(name: str, *args: Any) -> Any:
    from tests.engine import stuck_app

    return getattr(stuck_app, name).message(*args)


async def _runs(queue: TaskQueue) -> bool:
    """Whether it has begun: one that was only claimed would be handed back."""
    return bool(await queue.broker.client.redis.exists(f"{queue.broker.prefix}:stubborn"))


async def test_a_process_ends_in_spite_of_a_handler_that_does_not(shared: TaskQueue, start: Start) -> None:
    process = start()
    (handle,) = await shared.enqueue_many([_message("stubborn")])
    await until(lambda: _runs(shared), "it runs", seconds=60)
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0
    assert b"1 handlers could not be stopped" in log
    assert b"nothing held" not in log
    assert await handle.status() == "ready"  # handed back without losing an attempt


@pytest.mark.parametrize(("name", "args"), [("leaves_a_thread", (600,)), ("leaves_a_task", ())])
async def test_a_process_ends_in_spite_of_threads_and_tasks_left_in_it(
    shared: TaskQueue, start: Start, name: str, args: tuple[Any, ...]
) -> None:
    process = start()
    (handle,) = await shared.enqueue_many([_message(name, *args)])
    assert await handle.result(timeout=60) == "done"
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0


async def test_a_process_whose_slots_are_lost_ends_with_an_error(shared: TaskQueue, start: Start) -> None:
    port = free_port()
    process = start("--concurrency", "2", "--probe-port", str(port), "--probe-host", "127.0.0.1")
    handles = await shared.enqueue_many([_message("in_c", 600.0), _message("in_c", 600.0)])
    for handle in handles:
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=25)
    _, log = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 1
    assert b"is unhealthy and leaves" in log
    assert b"2 handlers could not be stopped" in log


async def test_an_unhealthy_worker_says_so_to_its_probe(shared: TaskQueue) -> None:
    from taskfleet.process.probes import ProbeServer

    worker = Worker(shared)
    probes = ProbeServer(worker.health, metrics.WorkerCollector.of(worker), "127.0.0.1", 0)
    probes.start()

    def status() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}/livez", timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    try:
        assert await asyncio.to_thread(status) == 200
        worker.health.unhealthy = "half of its slots are held by handlers that cannot be stopped"
        assert await asyncio.to_thread(status) == 503
    finally:
        probes.close()
