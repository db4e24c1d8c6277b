"""A million tasks leave neither memory in the worker nor keys in Redis."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from taskfleet.runtime.state.job import Job
from tests.engine import app
from tests.engine.conftest import RunWorker, until

_ROUNDS, _TASKS = 10, 100_000


@pytest.fixture
def worker(queue: TaskQueue) -> Iterator[tuple[TaskQueue, int]]:
    environment = {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix}
    process = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "worker", "tests.engine.app:queue", "--concurrency", "100"],
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
        preexec_fn=ends_with_this_process(),
    )
    yield queue, process.pid
    process.terminate()
    process.wait(60)


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(900)  # it ends a test that hangs: a busy machine takes minutes
async def test_memory_is_flat_over_a_million_tasks_and_redis_is_empty_after_them(
    worker: tuple[TaskQueue, int],
) -> None:
    queue, pid = worker
    message = app.noop.options(result_ttl=0).message()
    sizes: list[int] = []
    for done in range(1, _ROUNDS + 1):
        await queue.enqueue_many([message] * _TASKS)

        async def finished(count: int = done * _TASKS) -> bool:
            return (await queue.queue_stats("default")).finished_total == count

        await until(finished, f"round {done} is done", seconds=300)
        sizes.append(resident_kb(pid))
    # A round with a longer backlog than all before enlarges the process once. Memory kept for each task would enlarge
    # it in every round: even five bytes per task would show.
    growth = [after - before for before, after in itertools.pairwise(sizes[2:])]
    assert statistics.median(growth) < 512, sizes
    redis = queue.broker.client.redis
    left = {key.decode() async for key in redis.scan_iter(match=f"{queue.broker.prefix}:{{default}}:*", count=1000)}
    lasting = {key for key in left if await redis.ttl(key) == -1}
    assert lasting == {f"{queue.broker.prefix}:{{default}}:stat"}


async def test_finished_tasks_are_freed_without_the_collector(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> None: ...

    @queue.task
    async def waits() -> None:
        await asyncio.sleep(0)

    await run_worker(queue)
    gc.collect()
    gc.disable()
    try:
        handles = await queue.enqueue_many(
            [message for _ in range(500) for message in (task.message(), waits.message())]
        )
        await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
        # The deadlines still hold some ended jobs. None of these may keep its asyncio task, which would form a cycle.
        ours = {handle.id for handle in handles}  # jobs of other tests do not count
        assert not [job for job in gc.get_objects() if isinstance(job, Job) and job.id in ours and job.task is not None]
    finally:
        gc.enable()


async def test_a_run_that_another_worker_has_taken_over_is_freed_without_the_collector(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def waits() -> None:
        await asyncio.Event().wait()

    worker = await run_worker(queue)
    handle = await waits.enqueue()
    job = await until(lambda: worker.slots.running.get(handle.id), "it runs")
    worker.interrupts.interrupt([handle.id], "lost")
    await until(lambda: handle.id not in worker.slots.running, "its handler has ended")
    assert job.task is None
