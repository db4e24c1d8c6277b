"""Limits on running tasks and on starts per second, per queue and per limit key."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import replace

from taskfleet import TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until


class Gauge:
    """Records the number of running tasks, in all and by key, and the times of their starts."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.starts: dict[str, list[float]] = defaultdict(list)

    async def run(self, key: str, seconds: float) -> None:
        self.starts[key].append(time.monotonic())
        for name in (key, "all"):
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        await asyncio.sleep(seconds)
        for name in (key, "all"):
            self.now[name] -= 1


async def _idle(queue: TaskQueue, done: int) -> bool:
    stats = await queue.queue_stats("default")
    return stats.finished_total == done and stats.ready == stats.delayed == stats.in_flight == 0


async def test_concurrency_limits_the_queue_over_all_workers(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency": 3}])
    gauge = Gauge()

    @queue.task
    async def work() -> None:
        await gauge.run("k", 0.05)

    for _ in range(3):
        await run_worker(queue)
    await queue.enqueue_many([work.message() for _ in range(30)])
    await until(lambda: _idle(queue, 30), "all are done")
    assert gauge.most["all"] == 3


async def test_concurrency_per_key_limits_each_key_and_blocks_no_other(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 2}])
    gauge = Gauge()
    order: list[int] = []

    @queue.task
    async def work(key: str, n: int) -> None:
        if key == "a":
            order.append(n)
        await gauge.run(key, 0.05)

    await queue.enqueue_many(
        [work.options(limit_key="a").message("a", n) for n in range(20)]
        + [work.options(limit_key="b").message("b", n) for n in range(4)]
        + [work.message("free", n) for n in range(4)]
    )
    await run_worker(queue)
    await until(lambda: len(gauge.starts["b"]) == 4 and len(gauge.starts["free"]) == 4, "others go past")
    assert len(gauge.starts["a"]) < 20
    await until(lambda: _idle(queue, 28), "all are done")
    assert gauge.most["a"] == gauge.most["b"] == 2
    # First in, first out. Of the two tasks that run at once, either may reach its first line first.
    assert all(abs(at - n) <= 1 for at, n in enumerate(order)), order


async def test_a_dead_holders_slot_comes_back(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1, "lease_seconds": 1}])

    @queue.task
    async def work(n: int) -> int:
        return n

    handles = await queue.enqueue_many([work.options(limit_key="k").message(n) for n in range(3)])
    # A worker that claims and then dies.
    reply = await queue.broker.step("default", queue.application.options_of("default"), "gone", 3, [])
    assert len(reply.claims) == 1
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles] == [0, 1, 2]


async def test_rate_limit_per_key_spaces_starts_of_each_key(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(
        queues=[{"name": "default", "rate_limit_per_key": {"tasks_per_second": 20, "burst": 2}}], slots=50
    )
    gauge = Gauge()

    @queue.task
    async def work(key: str) -> None:
        await gauge.run(key, 0)

    await run_worker(queue)
    began = time.monotonic()
    await queue.enqueue_many([work.options(limit_key=key).message(key) for key in "ab" for _ in range(12)])
    await until(lambda: _idle(queue, 24), "all are done")
    for key in "ab":
        starts = [at - began for at in gauge.starts[key]]
        assert len(starts) == 12
        # 2 at once, then 20 a second: the n-th not before (n - 2) / 20 s.
        assert all(at >= (n - 1) / 20 - 0.03 for n, at in enumerate(starts)), starts
        assert starts[-1] < 6.0


async def test_a_cancelled_task_that_waits_for_its_key_is_gone(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    release = asyncio.Event()

    @queue.task
    async def work() -> int:
        await release.wait()
        return 1

    worker = await run_worker(queue)
    running, waiting, last = await queue.enqueue_many([work.options(limit_key="k").message() for _ in range(3)])
    await until(lambda: worker.slots.running, "the first runs")
    await until(lambda: _is(waiting, "delayed"), "the second waits for its key")
    assert await waiting.cancel()
    assert await waiting.status() == "cancelled"
    release.set()
    assert (await running.result(timeout=60), await last.result(timeout=60)) == (1, 1)
    await until(lambda: _idle(queue, 3), "nothing is left")


async def _is(handle, status: str) -> bool:  # type: ignore[no-untyped-def]
    return bool(await handle.status() == status)


async def test_failed_and_retried_tasks_free_their_slot(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    tries: Counter[int] = Counter()

    @queue.task(max_retries=1, limit_key="k")
    async def fails(n: int) -> None:
        tries[n] += 1
        raise ValueError("no")

    await run_worker(queue)
    await queue.enqueue_many([fails.message(n) for n in range(5)])
    await until(lambda: _idle(queue, 5), "all have failed for good", seconds=60)
    assert tries == dict.fromkeys(range(5), 2)


async def test_a_rate_limit_holds_over_all_workers(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(
        queues=[{"name": "default", "rate_limit": {"tasks_per_second": 100, "burst": 10}}], result_ttl=60
    )
    ran: list[float] = []

    @queue.task
    async def task() -> None:
        ran.append(asyncio.get_running_loop().time())

    await queue.enqueue_many([task.message() for _ in range(110)])
    began = asyncio.get_running_loop().time()
    for _ in range(2):
        await run_worker(queue, concurrency=50)
    await until(lambda: len(ran) == 110, "all have run")
    # 10 at once, then 100 a second: on a busy machine tasks start late, but never before they are let in.
    assert all(at - began >= (n - 10) / 100 - 0.03 for n, at in enumerate(sorted(ran), 1)), ran
    assert ran[-1] - began <= 7.0


async def test_a_slot_is_not_lost_when_the_task_that_was_let_in_for_it_is_cancelled(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    options = queue.application.options_of("default")

    @queue.task(limit_key="k")
    async def work() -> None: ...

    first, second, third = await queue.enqueue_many([work.message() for _ in range(3)])
    assert [claim[1] for claim in (await queue.broker.step("default", options, "w", 3, [])).claims] == [first.id]
    # The free slot admits the second task, which is cancelled before any worker claims it.
    await queue.broker.step("default", options, "w", 0, [(first.id, 1, "s", 0, b"", 0, 0)])
    assert await second.cancel()
    assert [claim[1] for claim in (await queue.broker.step("default", options, "w", 3, [])).claims] == [third.id]


async def test_a_limit_that_is_raised_holds_for_those_that_wait_already(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    one, four = (
        queue.application.options_of("default"),
        replace(queue.application.options_of("default"), concurrency_per_key=4),
    )

    @queue.task(limit_key="k")
    async def work() -> None: ...

    handles = await queue.enqueue_many([work.message() for _ in range(7)])
    assert len((await queue.broker.step("default", one, "w", 7, [])).claims) == 1
    ended = [(handles[0].id, 1, "s", 0, b"", 0, 0)]
    reply = await queue.broker.step("default", four, "w", 7, ended)
    assert reply.horizon_ms == 0
    claims = reply.claims + (await queue.broker.step("default", four, "w", 7, [])).claims
    assert [claim[1] for claim in claims] == [handle.id for handle in handles[1:5]]
