from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgpack
import pytest
from redis import exceptions as redis_errors

from taskfleet import TaskQueue, current_task
from taskfleet import ids as task_ids
from taskfleet.engine import scripts
from taskfleet.engine.scripts import Script
from tests.engine.conftest import MakeQueue, RunWorker, until


class RawWorker:
    """Speaks the scripts as a worker does, so that a test can be a worker that has gone wrong."""

    def __init__(self, queue: TaskQueue, owner: str, *, lease_ms: int = 1000, max_deliveries: int = 5) -> None:
        self.queue, self.owner, self.lease_ms, self.max_deliveries = queue, owner, lease_ms, max_deliveries
        self.keys = queue.broker.keys_of("default")

    async def step(
        self, slots: int = 0, outcomes: list[tuple[object, ...]] | None = None
    ) -> tuple[list[bytes], dict[str, str]]:
        """(stale ids, claimed id → meta)"""
        outcomes = outcomes or []
        results = [self.keys.result(str(o[0])) for o in outcomes if o[4]]
        args = (
            self.owner, slots, self.lease_ms, self.max_deliveries, 100, 100, 1_000_000, self.keys.done_channel,
            msgpack.packb(outcomes, use_bin_type=False), 0, 0, 0, b"", 0, 0, 0, 0,
        )  # fmt: skip
        reply = await self.queue.broker.client.run(scripts.STEP, (*self.keys.all, *results), args)
        claimed = reply[4]
        return reply[3], {claimed[i].decode(): claimed[i + 2].decode() for i in range(0, len(claimed), 3)}

    async def renew(self, *held: tuple[str, int]) -> list[bytes]:
        args = (self.owner, self.lease_ms, 0, msgpack.packb(held))
        lost: list[bytes] = (await self.queue.broker.client.run(scripts.RENEW, self.keys.all, args))[0]
        return lost


def succeeded(task_id: str, delivery: int, value: bytes = b"\x92\xa9succeeded\x01") -> tuple[object, ...]:
    return (task_id, delivery, "s", 5, value, 60_000, 0)


async def one_task(queue: TaskQueue) -> str:
    @queue.task
    async def task() -> int:
        return 1

    return (await task.enqueue()).id


async def test_a_stale_token_changes_nothing(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    slow, fast = RawWorker(queue, "slow", lease_ms=50), RawWorker(queue, "fast", lease_ms=60_000)
    _, claimed = await slow.step(1)
    assert list(claimed) == [task_id]
    await asyncio.sleep(0.08)
    _, claimed = await fast.step(1)
    assert claimed[task_id].startswith("1:1:1:")  # attempt 1, delivered once before, one crash
    assert await slow.renew((task_id, 1)) == [task_id.encode()]
    for code in "srncfd":
        stale, _ = await slow.step(0, [(task_id, 1, code, 5, b"", 0, b"\x93\xa1x\xa1x\xa1x" if code in "fd" else 0)])
        assert stale == [task_id.encode()]
    assert await queue.handle(task_id).status() == "running"
    stale, _ = await fast.step(0, [succeeded(task_id, 2)])
    assert stale == []
    assert await queue.handle(task_id).result(timeout=1) == 1
    stale, _ = await fast.step(0, [succeeded(task_id, 2, b"\x92\xa9succeeded\x02")])
    assert stale == [task_id.encode()]
    assert await queue.handle(task_id).result(timeout=1) == 1
    assert (await queue.queue_stats("default")).finished_total == 1


async def test_the_same_owner_cannot_ack_an_earlier_delivery(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    await worker.step(0, [(task_id, 1, "r", 1, b"", 0, 0)])  # retried at once
    _, claimed = await worker.step(1)
    assert claimed[task_id].startswith("2:1:0:")
    stale, _ = await worker.step(0, [succeeded(task_id, 1)])
    assert stale == [task_id.encode()]
    stale, _ = await worker.step(0, [succeeded(task_id, 2)])
    assert stale == []


async def test_an_outcome_sent_twice_counts_once(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w")
    await worker.step(1)
    stale, _ = await worker.step(0, [succeeded(task_id, 1), succeeded(task_id, 1)])
    assert stale == [task_id.encode()]
    stats = await queue.queue_stats("default")
    assert (stats.finished_total, stats.busy_ms_total) == (1, 5)


async def test_enqueue_sent_twice_adds_once(queue: TaskQueue) -> None:
    item = ("same-id", b"\x94\x01\xa4task\x90\x80", 0, 0)
    await queue.broker.enqueue("default", [item, item])
    await queue.broker.enqueue("default", [item])
    assert (await queue.queue_stats("default")).enqueued_total == 1


async def test_enqueue_whose_reply_was_lost_adds_once_even_when_the_task_has_ended(queue: TaskQueue) -> None:
    broker, sent = queue.broker, 0
    run = broker.client.run

    async def losing(script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        nonlocal sent
        reply = await run(script, keys, args)
        if script is scripts.ENQUEUE:
            sent += 1
            if sent == 1:
                # It runs, and ends without a result to keep, before its sender learns that it arrived.
                claimed = await broker.step("default", queue.options_of("default"), "w", 1, [])
                await broker.step(
                    "default", queue.options_of("default"), "w", 0, [(claimed.claims[0][1], 1, "s", 0, b"", 0, 0)]
                )
                raise redis_errors.ConnectionError("the reply is lost")
        return reply

    broker.client.run = losing  # type: ignore[method-assign]
    task_id = await one_task(queue)
    stats = await queue.queue_stats("default")
    assert sent == 2
    assert (stats.ready, stats.enqueued_total, stats.finished_total) == (0, 1, 1)
    assert await queue.handle(task_id).status() == "unknown"


async def test_a_call_that_arrives_after_it_was_sent_again_adds_nothing(queue: TaskQueue) -> None:
    broker, delayed_call = queue.broker, list[Any]()
    run = broker.client.run

    async def losing(script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if script is scripts.ENQUEUE and not delayed_call:
            delayed_call.extend((script, keys, args))
            raise redis_errors.ConnectionError("it is still on its way")
        return await run(script, keys, args)

    broker.client.run = losing  # type: ignore[method-assign]
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await worker.step(0, [succeeded(task_id, 1)])
    await run(*delayed_call)  # after its second sending
    await one_task(queue)
    await run(*delayed_call)  # after the next call of the same sender
    assert (await queue.queue_stats("default")).enqueued_total == 2


async def test_a_forked_process_does_not_count_on_under_the_names_of_its_parent(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_task(queue)
    senders = queue.broker._senders
    before = {name for streams in senders.values() for name, _ in streams}
    monkeypatch.setattr("os.getpid", lambda: -1)
    await one_task(queue)
    assert len({name for streams in senders.values() for name, _ in streams} - before) == 1


async def test_what_a_call_without_a_reply_has_claimed_goes_back_at_once(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    broker, lost = queue.broker, 0

    def losing(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def lose_first_claim(*args: Any) -> Any:
            nonlocal lost
            reply = await call(*args)
            if scripts.STEP in args and reply[4] and not lost:
                lost += 1
                raise redis_errors.ConnectionError("the reply is lost")
            return reply

        return lose_first_claim

    @queue.task
    async def task() -> tuple[int, int]:
        return current_task().attempt, current_task().delivery

    worker = await run_worker(queue)
    broker.client.run = losing(broker.client.run)  # type: ignore[method-assign]
    broker.client.pop_and_run = losing(broker.client.pop_and_run)  # type: ignore[method-assign]
    await (await task.enqueue()).result(timeout=10)  # the call that was under way already
    handle = await task.enqueue()
    assert await handle.result(timeout=10) == (1, 2)  # long before its lease of 30 s ends
    assert lost == 1
    assert worker.lost_acks == 0


async def test_expired_leases_go_to_the_head_in_order_and_finally_to_the_dead_letters(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    task_ids._after_fork()  # ids of one length: leases of one deadline go by their text, in which "10" is before "f"
    handles = await queue.enqueue_many([task.message() for _ in range(4)])
    ids = [handle.id for handle in handles]
    worker = RawWorker(queue, "w", lease_ms=20, max_deliveries=2)
    _, claimed = await worker.step(2)
    assert list(claimed) == ids[:2]
    await asyncio.sleep(0.04)
    _, claimed = await worker.step(3)
    assert list(claimed) == ids[:3]
    await asyncio.sleep(0.04)
    _, claimed = await worker.step(4)
    assert list(claimed) == ids[2:]
    letters = await queue.dead_letters("default")
    assert [letter.id for letter in letters] == ids[:2]
    assert {letter.reason for letter in letters} == {"max_deliveries"}
    assert await handles[0].status() == "dead"


async def test_work_handed_back_uses_up_no_attempt(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w", max_deliveries=1)
    for _ in range(3):
        _, claimed = await worker.step(1)
        (meta,) = claimed.values()
        delivery = int(meta.split(":")[1]) + 1 if meta else 1
        assert not meta or meta.startswith("1:")
        await worker.step(0, [(task_id, delivery, "n", 0, b"", 0, 0)])
    assert await queue.handle(task_id).status() == "ready"


async def test_a_task_that_blocks_the_loop_for_three_leases_is_run_once(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[{"name": "default", "lease_seconds": 1}], heartbeat=5.0)
    ran = 0

    @queue.task
    async def rude() -> int:
        nonlocal ran
        ran += 1
        time.sleep(3.2)  # noqa: ASYNC251 - the rudeness under test
        return ran

    other = make_queue(queues=[{"name": "default", "lease_seconds": 1}])
    await run_worker(queue)
    handle = await rude.enqueue()
    thief = RawWorker(other, "thief")

    def steal() -> dict[str, str]:
        # A thread with a loop of its own, since ours is blocked by design.
        async def look() -> dict[str, str]:
            stolen: dict[str, str] = {}
            thief.queue = fresh = TaskQueue(settings=other.settings)
            end = time.monotonic() + 2.8
            while time.monotonic() < end:
                await asyncio.sleep(0.2)
                stolen |= (await thief.step(1))[1]
            await fresh.close()
            return stolen

        return asyncio.run(look())

    stealing = asyncio.create_task(asyncio.to_thread(steal))
    await until(lambda: ran, "it runs")
    assert await stealing == {}
    assert await handle.result(timeout=10) == 1


async def test_a_worker_whose_task_was_taken_over_cancels_its_handler(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[{"name": "default", "lease_seconds": 1}])
    cancelled = asyncio.Event()

    @queue.task
    async def task() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    handle = await task.enqueue()
    worker = await run_worker(queue)
    await until(lambda: worker.running, "it runs")
    # What a takeover leaves behind: another owner's token.
    await queue.broker.client.redis.hset(queue.broker.keys_of("default").all[4], handle.id, "another:2")
    await asyncio.wait_for(cancelled.wait(), 10)
    await until(lambda: not worker.held, "it holds nothing")
    assert await handle.status() == "running"


async def test_a_cordoned_worker_empties_itself_and_comes_back(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    worker = await run_worker(queue, concurrency=2)
    await hold.enqueue()
    await until(lambda: worker.running, "it runs")
    await queue.broker.cordon(worker.name, ttl_seconds=60)

    async def state(wanted: str) -> bool:
        return any(w.name == worker.name and w.state == wanted for w in await queue.broker.workers())

    await until(lambda: state("cordoned"), "it is cordoned while it works")
    second = await hold.enqueue()
    release.set()
    await until(lambda: state("drained"), "it is drained")
    assert await second.status() == "ready"
    await queue.broker.uncordon(worker.name)
    await second.result(timeout=10)
    await until(lambda: state("running"), "it is back")


async def test_drain_hands_back_and_lets_running_tasks_end(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(grace=10.0)
    release = asyncio.Event()

    @queue.task
    async def hold(n: int) -> int:
        await release.wait()
        return n

    worker = await run_worker(queue, concurrency=2)
    handles = await queue.enqueue_many([hold.message(n) for n in range(5)])
    await until(lambda: len(worker.running) == 2, "two run")
    worker.drain()
    assert not worker.ready
    release.set()
    await until(lambda: worker.stopped, "it has ended")
    assert [await handle.status() for handle in handles] == ["succeeded"] * 2 + ["ready"] * 3
    assert worker.name not in {w.name for w in await queue.broker.workers()}


async def test_drain_requeues_what_outlives_the_grace_period(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(grace=0.1)

    @queue.task(max_retries=0)
    async def endless() -> None:
        await asyncio.sleep(60)

    worker = await run_worker(queue)
    handle = await endless.enqueue()
    await until(lambda: worker.running, "it runs")
    worker.drain()
    await until(lambda: worker.stopped, "it has ended")
    assert await handle.status() == "ready"
    _, claimed = await RawWorker(queue, "next").step(1)
    assert claimed[handle.id].startswith("1:1:0:")


async def test_figures_tell_what_is_there(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(3)])
    await task.options(delay=5).enqueue()
    await task.options(delay=500).enqueue()
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await asyncio.sleep(0.05)
    stats = await queue.queue_stats("default", horizon=10)
    assert (stats.ready, stats.in_flight, stats.delayed, stats.due, stats.enqueued_total) == (2, 1, 2, 1, 5)
    assert 0.04 < stats.oldest_age_seconds < 5


async def test_the_first_task_of_an_empty_queue_is_announced(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    heard: list[str] = []

    async def listen() -> None:
        async for name in queue.broker.activity():
            heard.append(name)

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: heard == [""], "the subscription stands")
        await task.enqueue()
        await until(lambda: heard == ["", "default"], "the first task is announced")
        await task.enqueue()
        await task.options(queue="other").enqueue()
        await until(lambda: heard == ["", "default", "other"], "only queues that were empty are")
    finally:
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening


async def test_a_worker_that_has_filled_up_claims_nothing_that_another_could_run(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    @queue.task
    async def quick() -> int:
        return 1

    full = await run_worker(queue, concurrency=2)
    # Due tasks are claimed without a call, so the claim that waits for one must be taken back.
    await queue.enqueue_many([hold.options(delay=0.2).message() for _ in range(2)])
    await until(lambda: len(full.running) == 2, "it is full")
    handles = [await quick.enqueue() for _ in range(3)]
    await asyncio.sleep(0.1)
    assert [await handle.status() for handle in handles] == ["ready"] * 3
    await run_worker(queue, concurrency=2)
    assert [await handle.result(timeout=10) for handle in handles] == [1, 1, 1]
    release.set()


async def test_cordoned_means_that_nothing_is_claimed(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def quick() -> int:
        return current_task().delivery

    worker = await run_worker(queue)
    for _ in range(5):
        await queue.broker.cordon(worker.name, ttl_seconds=60)
        await until(lambda: worker.cordoned, "it is cordoned")
        handle = await quick.enqueue()
        await asyncio.sleep(0.02)
        await queue.broker.uncordon(worker.name)
        assert await handle.result(timeout=10) <= 2
