"""A free slot goes to the highest tier that has tasks, even if the worker is busy with another tier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from taskfleet import RetryLater, TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until

TIERS = [{"name": "low"}, {"name": "high", "priority": 10}]


class Gate:
    """Tasks of a queue that block until the test releases them, one by one, in the order of their starts."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self.order: list[str] = []
        self._let_go = asyncio.Semaphore(0)

        @queue.task(max_retries=0)
        async def gated(name: str) -> None:
            self.order.append(name)
            await self._let_go.acquire()

        self.task = gated

    async def send(self, name: str, count: int = 1, *, delay: float = 0.0) -> None:
        bound = self.task.options(queue=name, delay=delay)
        await self._queue.enqueue_many([bound.message(name) for _ in range(count)])

    def free(self, slots: int = 1) -> None:
        for _ in range(slots):
            self._let_go.release()

    async def started(self, count: int) -> list[str]:
        await until(lambda: len(self.order) >= count, f"{count} have started: {self.order}")
        return self.order


@pytest.mark.parametrize("queues", [["low", "high"], ["low:1", "high:100"]])
async def test_the_next_free_slot_goes_to_the_higher_tier(
    make_queue: MakeQueue, run_worker: RunWorker, queues: list[str]
) -> None:
    queue = make_queue(queues=TIERS)
    gate = Gate(queue)
    await gate.send("low", 30)
    await run_worker(queue, concurrency=4, queues=queues)
    await gate.started(4)
    for n in range(5, 15, 2):
        await gate.send("high")
        gate.free()
        assert (await gate.started(n))[n - 1] == "high"
        gate.free()
        assert (await gate.started(n + 1))[n] == "low"
    gate.free(100)


async def test_every_tier_is_served_in_its_turn(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    names = ["a", "b", "c", "d"]
    queue = make_queue(queues=[{"name": name, "priority": -n} for n, name in enumerate(names)])
    gate = Gate(queue)
    await gate.send("d", 4)
    await run_worker(queue, concurrency=1, queues=names)
    await gate.started(1)
    for name in ("c", "a", "b"):
        await gate.send(name, 2)
    for n in range(2, 11):
        gate.free()
        await gate.started(n)
    assert gate.order == ["d", "a", "a", "b", "b", "c", "c", "d", "d", "d"]
    gate.free(100)


@pytest.mark.parametrize("slots", [1, 16])
async def test_no_lower_task_runs_before_the_last_higher_one(
    make_queue: MakeQueue, run_worker: RunWorker, slots: int
) -> None:
    queue = make_queue(queues=TIERS)
    order: list[str] = []

    @queue.task(result_ttl=0)
    async def noop(name: str) -> None:
        order.append(name)

    for name in ("low", "high"):
        await queue.enqueue_many([noop.options(queue=name).message(name) for _ in range(2000)])
    await run_worker(queue, concurrency=slots, queues=["low", "high"])
    await until(lambda: len(order) == 4000, "all have run")
    assert order[:2000].count("low") == 0


@pytest.mark.parametrize("queues", [["low", "high"], ["low:1", "high:100"]])
async def test_a_storm_of_retries_keeps_no_higher_task_waiting(
    make_queue: MakeQueue, run_worker: RunWorker, queues: list[str]
) -> None:
    queue = make_queue(queues=TIERS)
    runs = 0

    @queue.task(queue="low", max_retries=1_000_000)
    async def again() -> None:
        nonlocal runs
        runs += 1
        raise RetryLater(0.01)

    @queue.task(queue="high")
    async def first() -> int:
        return runs

    await queue.enqueue_many([again.message() for _ in range(1000)])
    await run_worker(queue, concurrency=4, queues=queues)
    await until(lambda: runs > 1000, "the storm is on")
    for _ in range(3):
        before = runs
        # The number of tasks that may run while one task is sent, claimed and recorded, even on a slow machine.
        assert await (await first.enqueue()).result(timeout=60) - before < 5000


async def test_prefetched_tasks_let_the_higher_tier_pass(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=TIERS)
    order: list[str] = []

    @queue.task(result_ttl=0)
    async def note(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0)  # else Python 3.13 runs all that were claimed ahead in one go, and nobody sees them

    gate = Gate(queue)
    worker = await run_worker(queue, concurrency=1, queues=["low", "high"])
    await queue.enqueue_many([note.options(queue="low").message("low") for _ in range(3000)])
    await until(lambda: len(worker.prefetch.claims) > 5, "some are claimed ahead")
    await gate.send("high")
    await until(lambda: gate.order, "the higher one has started")
    if worker.prefetch.claims:
        assert len(order) < 3000
    gate.free()
    await until(lambda: len(order) == 3000, "all have run")


async def test_delayed_work_moves_while_the_worker_is_busy_with_another_queue(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=TIERS)
    gate = Gate(queue)
    await gate.send("low", 50)
    await run_worker(queue, concurrency=2, queues=["low", "high"])
    await gate.started(2)
    await gate.send("high", delay=0.2)
    # No worker has a free slot. The task becomes ready all the same, for the next free slot of any worker.
    await until(lambda: _ready(queue, "high", 1), "it is due")
    gate.free()
    assert (await gate.started(3))[2] == "high"
    gate.free(100)


async def _ready(queue: TaskQueue, name: str, count: int) -> bool:
    return (await queue.queue_stats(name)).ready == count


async def test_delayed_work_of_a_lower_tier_moves_while_a_higher_one_is_busy(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=TIERS)
    gate = Gate(queue)
    await gate.send("high", 50)
    await run_worker(queue, concurrency=2, queues=["low", "high"])
    await gate.started(2)
    await gate.send("low", delay=0.1)
    await until(lambda: _ready(queue, "low", 1), "it is due")
    gate.free(100)
    await gate.started(51)
    assert gate.order[-1] == "low"


async def test_all_partitions_are_served_while_the_worker_is_busy(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "low"}, {"name": "high", "priority": 1, "partitions": 4}])
    gate = Gate(queue)
    await gate.send("low", 80)
    await run_worker(queue, concurrency=2, queues=["low", "high"])
    await gate.started(2)
    await gate.send("high", 20)
    assert len(await queue.broker.partitions("high")) == 4
    for n in range(3, 23):
        gate.free()
        await gate.started(n)
    assert gate.order[2:] == ["high"] * 20
    gate.free(100)


@pytest.mark.parametrize("queues", [["low", "high"], ["low:100", "high:1"]])
@pytest.mark.parametrize("frees", [True, False])
async def test_leases_that_end_are_taken_over_however_busy_the_survivors_are(
    make_queue: MakeQueue, run_worker: RunWorker, queues: Sequence[str], frees: bool
) -> None:
    queue = make_queue(queues=[{"name": "low"}, {"name": "high", "priority": 10, "lease_seconds": 1}])
    gate = Gate(queue)
    await gate.send("low", 400)
    await run_worker(queue, concurrency=2, queues=queues)
    await gate.started(2)
    await gate.send("high")
    await queue.broker.step("high", queue.application.options_of("high"), "a-dead-worker", 1, [])
    began = asyncio.get_running_loop().time()

    async def taken_over() -> bool:
        if frees:
            gate.free()
        stats = await queue.queue_stats("high")
        return stats.ready == 1 or "high" in gate.order

    await until(taken_over, "the lease is taken over")
    # One lease and 2 s, plus an allowance for a busy machine.
    assert asyncio.get_running_loop().time() - began < 9.0
    gate.free(1000)
    await until(lambda: "high" in gate.order, "it has run")


async def test_a_higher_tier_that_may_not_run_does_not_block_the_lower_one(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(
        queues=[
            {"name": "low"},
            {"name": "paused", "priority": 30},
            {"name": "limited", "priority": 20, "rate_limit": {"tasks_per_second": 0.001, "burst": 1}},
            {"name": "alone", "priority": 10, "concurrency": 1},
        ]
    )
    gate = Gate(queue)
    await queue.pause("paused")
    for name in ("paused", "limited", "alone", "low"):
        await gate.send(name, 10)
    await run_worker(queue, concurrency=4, queues=["paused", "limited", "alone", "low"])
    await gate.started(4)
    assert gate.order == ["limited", "alone", "low", "low"]
    await queue.resume("paused")
    gate.free()
    assert (await gate.started(5))[4] == "paused"
    gate.free(100)


async def test_a_paused_queue_costs_an_idle_worker_no_calls(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()

    @queue.task
    async def task() -> int:
        return 1

    await queue.pause("default")
    handle = await task.enqueue()
    worker = await run_worker(queue)
    calls = 0
    step = queue.broker.step

    async def counted(*args: object) -> object:
        nonlocal calls
        calls += 1
        return await step(*args)  # type: ignore[arg-type]

    queue.broker.step = counted  # type: ignore[method-assign,assignment]
    await until(lambda: worker.listeners._hungry.is_set(), "the worker rests")
    await asyncio.wait({asyncio.ensure_future(handle.result(timeout=1.0))})
    assert calls < 10
    await queue.resume("default")
    assert await handle.result(timeout=60) == 1


async def test_weights_hold_while_slots_come_free_one_by_one(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    gate = Gate(queue)
    await gate.send("a", 100)
    await run_worker(queue, concurrency=1, queues=["a:1", "b:3"])
    await gate.started(1)
    await gate.send("b", 100)
    for n in range(2, 82):
        gate.free()
        await gate.started(n)
    assert 55 <= gate.order[1:].count("b") <= 65
    gate.free(1000)
