"""Leases: one owner at a time, and takeovers of the tasks of a dead worker."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from redis import exceptions as redis_exceptions

from taskfleet import Retry, TaskQueue, current_task
from taskfleet import ids as task_ids
from taskfleet.protocol.broker import Renewer
from taskfleet.protocol.claim import CLAIM_ATTEMPT, CLAIM_DELIVERY, Claim, StepReply
from taskfleet.protocol.outcome import Outcome
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker


async def one_task(queue: TaskQueue) -> str:
    @queue.task
    async def task() -> int:
        return 1

    return (await task.enqueue()).id


def succeeded(task_id: str, delivery: int, value: bytes = b"\x92\xa9succeeded\x01") -> Outcome:
    return (task_id, delivery, "s", 5, value, 60_000, 0)


async def test_a_stale_token_changes_nothing(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    slow, fast = RawWorker(queue, "slow", lease_ms=50), RawWorker(queue, "fast", lease_ms=60_000)
    _, claimed = await slow.step(1)
    assert list(claimed) == [task_id]
    await asyncio.sleep(0.08)
    _, claimed = await fast.step(1)
    assert claimed[task_id][3:5] == (1, 2)  # still the first attempt, in its second delivery
    assert await slow.renew((task_id, 1)) == [task_id]
    for code in "srncfd":
        stale, _ = await slow.step(0, [(task_id, 1, code, 5, b"", 0, b"\x93\xa1x\xa1x\xa1x" if code in "fd" else 0)])
        assert stale == 1
    assert await queue.handle(task_id).status() == "running"
    stale, _ = await fast.step(0, [succeeded(task_id, 2)])
    assert stale == 0
    assert await queue.handle(task_id).result(timeout=60) == 1
    stale, _ = await fast.step(0, [succeeded(task_id, 2, b"\x92\xa9succeeded\x02")])
    assert stale == 1
    assert await queue.handle(task_id).result(timeout=60) == 1
    assert (await queue.queue_stats("default")).finished_total == 1


async def test_the_same_owner_cannot_ack_an_earlier_delivery(queue: TaskQueue) -> None:
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    await worker.step(0, [(task_id, 1, "r", 1, b"", 0, 0)])  # retried at once
    _, claimed = await worker.step(1)
    assert claimed[task_id][3:5] == (2, 2)
    stale, _ = await worker.step(0, [succeeded(task_id, 1)])
    assert stale == 1
    stale, _ = await worker.step(0, [succeeded(task_id, 2)])
    assert stale == 0


@pytest.mark.parametrize("value", [b"\x92\xa9succeeded\x01", b""], ids=["with a result", "without one"])
async def test_an_outcome_sent_twice_counts_once(queue: TaskQueue, value: bytes) -> None:
    task_id = await one_task(queue)
    worker = RawWorker(queue, "w")
    await worker.step(1)
    stale, _ = await worker.step(0, [succeeded(task_id, 1, value), succeeded(task_id, 1, value)])
    assert stale == 1
    stats = await queue.queue_stats("default")
    assert stats.finished_total == 1
    if value:
        assert stats.busy_ms_total == 5


async def test_enqueue_sent_twice_adds_once(queue: TaskQueue) -> None:
    item = ("same-id", b"\x94\x01\xa4task\x90\x80", 0, 0, None)
    await queue.broker.enqueue("default", [item, item])
    await queue.broker.enqueue("default", [item])
    assert (await queue.queue_stats("default")).enqueued_total == 1


async def test_expired_leases_go_to_the_head_in_order_and_finally_to_the_dead_letters(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    task_ids._after_fork()  # of equal length: equal deadlines are sorted by text, where "10" is before "f"
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
        (claim,) = claimed.values()
        assert claim[CLAIM_ATTEMPT] == 1
        await worker.step(0, [(task_id, claim[CLAIM_DELIVERY], "n", 0, b"", 0, 0)])
    assert await queue.handle(task_id).status() == "ready"


async def test_a_task_that_blocks_the_loop_for_longer_than_its_lease_is_run_once(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    # Renewed every 3 s, so that a busy machine may be late by 6 s.
    queue = make_queue(queues=[{"name": "default", "lease_seconds": 9}], heartbeat=5.0)
    ran = 0
    began = threading.Event()

    @queue.task
    async def rude() -> int:
        nonlocal ran
        ran += 1
        began.set()
        time.sleep(11)  # noqa: ASYNC251 - the rudeness under test
        return ran

    other = make_queue(queues=[{"name": "default", "lease_seconds": 9}])
    thief = RawWorker(other, "thief")

    def steal() -> dict[str, Claim]:
        # A thread with a loop of its own, because the test blocks its loop on purpose.
        async def look() -> dict[str, Claim]:
            stolen: dict[str, Claim] = {}
            thief.queue = fresh = TaskQueue(settings=other.settings)
            assert began.wait(30)  # before it runs, anybody may take it
            end = time.monotonic() + 10.5
            while time.monotonic() < end:
                await asyncio.sleep(0.2)
                stolen |= (await thief.step(1))[1]
            await fresh.close()
            return stolen

        return asyncio.run(look())

    await run_worker(queue)
    stealing = asyncio.create_task(asyncio.to_thread(steal))
    handle = await rude.enqueue()
    assert await stealing == {}
    assert await handle.result(timeout=60) == 1


async def test_a_worker_counts_what_it_takes_over(queue: TaskQueue, run_worker: RunWorker) -> None:
    task_id = await one_task(queue)
    gone = RawWorker(queue, "gone", lease_ms=50)
    _, claimed = await gone.step(1)
    assert list(claimed) == [task_id]
    worker = await run_worker(queue)
    assert await queue.handle(task_id).result(timeout=30) == 1
    assert sum(worker.tally.taken_over.values()) == 1


async def test_a_worker_whose_task_was_taken_over_cancels_its_handler(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    # Long enough that the lease does not end, and this worker take the task back, before it learns of the loss.
    queue = make_queue(queues=[{"name": "default", "lease_seconds": 30}])
    cancelled = asyncio.Event()

    @queue.task
    async def task() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    handle = await task.enqueue()
    worker = await run_worker(queue)
    await until(lambda: worker.slots.running, "it runs")
    await white_box.give_away(queue, handle.id)
    await asyncio.wait_for(cancelled.wait(), 60)
    await until(lambda: not worker.held, "it holds nothing")
    assert await handle.status() == "running"


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
    # A due task sends no wake-up, so the worker must take back its claim that waits for one.
    await queue.enqueue_many([hold.options(delay=0.2).message() for _ in range(2)])
    await until(lambda: len(full.slots.running) == 2, "it is full")
    handles = [await quick.enqueue() for _ in range(3)]

    async def all_wait() -> bool:
        return [await handle.status() for handle in handles] == ["ready"] * 3

    # The waiting claim may have got a task just before it was taken back. That task is handed back too.
    await until(all_wait, "all wait for another worker")
    await run_worker(queue, concurrency=2)
    assert [await handle.result(timeout=60) for handle in handles] == [1, 1, 1]
    release.set()


@pytest.mark.parametrize("also", ["", "owned", "step"])
@pytest.mark.parametrize("ends", ["full", "cordoned", "drained"])
async def test_a_claim_whose_reply_is_lost_goes_back_although_the_worker_claims_no_more(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, ends: str, also: str
) -> None:
    """What has lost the reply may make the next calls fail `also`."""
    lost = asyncio.Event()
    claim = queue.broker.step_when_called

    async def without_reply(*args: Any) -> None:
        *others, take = args

        def take_unless_lost(reply: StepReply) -> None:
            if reply.claims:
                lost.set()
            else:
                take(reply)

        await claim(*others, take_unless_lost)
        if lost.is_set():
            await asyncio.Event().wait()

    @queue.task
    async def quick() -> int:
        return 1

    monkeypatch.setattr(queue.broker, "step_when_called", without_reply)
    worker = await run_worker(queue, concurrency=2)
    handle = await quick.enqueue()
    await asyncio.wait_for(lost.wait(), 60)
    assert await handle.status() == "running"
    assert not worker.held
    monkeypatch.undo()
    if also:
        answer, left = getattr(queue.broker, also), [1, 2, 3]

        async def failing(*args: Any) -> Any:
            if left:
                left.pop()
                raise redis_exceptions.ConnectionError("the connection is lost")
            return await answer(*args)

        monkeypatch.setattr(queue.broker, also, failing)
    if ends == "full":
        worker.slots.usable = 0
        worker.wanted.set()
    elif ends == "cordoned":
        await queue.broker.cordon(worker.identity.name, ttl_seconds=60)
    else:
        worker.drain()

    async def waits() -> bool:
        return await handle.status() == "ready"

    await until(waits, "another worker can have it")
    await run_worker(queue)
    assert await handle.result(timeout=60) == 1


async def test_claims_whose_reply_is_lost_go_back_in_order(
    queue: TaskQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a worker drains while a claim that it has sent along is on its way."""
    lost: list[int] = []
    ran: list[int] = []
    claim = queue.broker.step_when_called

    async def without_reply(*args: Any) -> None:
        *others, take = args

        def take_unless_lost(reply: StepReply) -> None:
            if reply.claims:
                lost.append(len(reply.claims))
            else:
                take(reply)

        await claim(*others, take_unless_lost)
        if lost:
            await asyncio.Event().wait()

    @queue.task
    async def note(n: int) -> None:
        ran.append(n)

    monkeypatch.setattr(queue.broker, "step_when_called", without_reply)
    worker = await run_worker(queue, concurrency=1000)
    await until(lambda: worker.listeners.claiming, "it waits")
    handles = await queue.enqueue_many([note.message(n) for n in range(200)])
    await until(lambda: lost, "it has claimed them without its knowledge")
    assert lost == [200]
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    monkeypatch.undo()
    assert (await queue.queue_stats("default")).ready == 200
    await run_worker(queue, concurrency=1)
    await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
    assert ran == list(range(200))


async def test_the_shortest_of_different_leases_is_looked_after_first(queue: TaskQueue) -> None:
    await one_task(queue)
    long, short = RawWorker(queue, "long", lease_ms=60_000), RawWorker(queue, "short", lease_ms=2000)
    await long.step(1)
    await queue.broker.enqueue("default", [("second", b"\x94\x01\xa4task\x90\x80", 0, 0, None)])
    reply = await queue.broker.step("default", short.options, "short", 1, [])
    assert 1000 < reply.horizon_ms <= 2001


async def test_a_renewal_that_is_overtaken_by_a_retry_does_not_stop_the_retry(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    renewing, retried, told = threading.Event(), threading.Event(), threading.Event()
    attempts: list[tuple[int, int]] = []

    class Slow:
        """A renewer whose first call that renews a lease arrives late."""

        def __init__(self, renewer: Renewer) -> None:
            self._renewer = renewer

        def renew(self, *args: Any) -> Any:
            overtaken = bool(args[4]) and not retried.is_set()
            if overtaken:
                renewing.set()
                assert retried.wait(10)
            reply = self._renewer.renew(*args)
            if overtaken:
                assert reply[0] == [args[4][0][0]]  # this worker no longer owns that delivery
                told.set()
            return reply

        def __getattr__(self, name: str) -> Any:
            return getattr(self._renewer, name)

    new_renewer = queue.sessions.new_renewer
    queue.sessions.new_renewer = lambda: Slow(new_renewer())  # type: ignore[method-assign, assignment, return-value]

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task() -> int:
        attempts.append((current_task().attempt, current_task().delivery))
        if len(attempts) == 1:
            await asyncio.to_thread(renewing.wait, 10)
            raise ValueError("again")
        retried.set()
        await asyncio.to_thread(told.wait, 10)
        await asyncio.sleep(0.1)
        return len(attempts)

    await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=60) == 2
    assert attempts == [(1, 1), (2, 2)]
