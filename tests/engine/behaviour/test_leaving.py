"""Cordoned and draining workers."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import TaskQueue, current_task
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.white_box import RawWorker


async def test_a_cordoned_worker_empties_itself_and_comes_back(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    worker = await run_worker(queue, concurrency=2)
    await hold.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    await queue.broker.cordon(worker.identity.name, ttl_seconds=60)

    async def state(wanted: str) -> bool:
        return any(w.name == worker.identity.name and w.state == wanted for w in await queue.broker.workers())

    await until(lambda: state("cordoned"), "it is cordoned while it works")
    assert worker.health.ready, "a pod that finishes its tasks stays ready"
    second = await hold.enqueue()
    release.set()
    await until(lambda: state("drained"), "it is drained")
    assert worker.health.ready
    assert await second.status() == "ready"
    await queue.broker.uncordon(worker.identity.name)
    await second.result(timeout=60)
    await until(lambda: state("running"), "it is back")


async def test_a_worker_that_is_cordoned_before_it_starts_never_claims(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def quick() -> int:
        return current_task().delivery

    handle = await quick.enqueue()
    for n in range(20):
        await queue.broker.cordon(f"late-{n}", ttl_seconds=60)
        worker = await run_worker(queue, name=f"late-{n}")
        await until(lambda worker=worker: worker.health.ready, "it is ready, and could claim")
        assert await handle.status() == "ready"
    await until(lambda: _states(queue, "drained", 20), "all are drained, though none has run a task")
    await queue.broker.uncordon("late-7")
    assert await handle.result(timeout=60) == 1


async def _states(queue: TaskQueue, state: str, count: int) -> bool:
    return [one.state for one in await queue.broker.workers()].count(state) == count


async def test_drain_hands_back_and_lets_running_tasks_end(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(grace=10.0)
    release = asyncio.Event()

    @queue.task
    async def hold(n: int) -> int:
        await release.wait()
        return n

    worker = await run_worker(queue, concurrency=2)
    handles = await queue.enqueue_many([hold.message(n) for n in range(5)])
    await until(lambda: len(worker.slots.running) == 2, "two run")
    assert worker.health.ready, "readiness does not depend on busyness: all slots are taken"
    worker.drain()
    assert not worker.health.ready
    release.set()
    await until(lambda: worker.health.stopped, "it has ended")
    assert [await handle.status() for handle in handles] == ["succeeded"] * 2 + ["ready"] * 3
    assert worker.identity.name not in {w.name for w in await queue.broker.workers()}


async def test_a_worker_that_ends_claims_nothing_while_it_waits_for_its_signals(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, release = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        ending.set()
        await release.wait()

    @queue.task
    async def quick() -> None: ...

    worker = await run_worker(queue)
    await until(lambda: worker.listeners.claiming, "it waits for calls")
    monkeypatch.setattr(worker.relays, "close", slow)
    worker.drain()
    await asyncio.wait_for(ending.wait(), 60)
    handle = await quick.enqueue()
    await asyncio.sleep(0.1)  # enough for a claim that has been sent along
    release.set()
    await until(lambda: worker.health.stopped, "it has ended")
    assert not worker.held
    assert await handle.status() == "ready"


async def test_drain_requeues_tasks_that_outlast_the_grace_period(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(grace=0.1)

    @queue.task(max_retries=0)
    async def endless() -> None:
        await asyncio.sleep(60)

    worker = await run_worker(queue)
    handle = await endless.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert await handle.status() == "ready"
    _, claimed = await RawWorker(queue, "next").step(1)
    assert claimed[handle.id][3:5] == (1, 2)


async def test_cordoned_means_that_nothing_is_claimed(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def quick() -> int:
        return current_task().delivery

    worker = await run_worker(queue)
    for _ in range(5):
        await queue.broker.cordon(worker.identity.name, ttl_seconds=60)
        await until(lambda: worker.health.cordoned, "it is cordoned")
        handle = await quick.enqueue()
        await asyncio.sleep(0.02)
        await queue.broker.uncordon(worker.identity.name)
        assert await handle.result(timeout=60) <= 2
