from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from taskfleet import (
    BatchItem,
    BatchTask,
    CallNext,
    Depends,
    Middleware,
    Retry,
    RetryLater,
    SerializationError,
    TaskCancelledError,
    TaskContext,
    TaskExecutionError,
    TaskHandle,
    TaskQueue,
    TaskTimeoutError,
    current_task,
)
from taskfleet.protocol.partitions import spread
from taskfleet.runtime.state.batch_job import BatchJob
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box


def numbers(items: Sequence[BatchItem]) -> list[int]:
    return [item.args[0] for item in items]


async def results(handles: Sequence[TaskHandle[Any]]) -> list[Any]:
    return [await handle.result(timeout=60) for handle in handles]


async def test_two_slots_gather_a_batch_of_a_hundred(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    batches: list[list[int]] = []

    @queue.batch_task(size=100, window_ms=60_000)
    async def double(items: list[BatchItem]) -> list[int]:
        batches.append(numbers(items))
        return [2 * item.args[0] for item in items]

    handles = await queue.enqueue_many([double.message(n) for n in range(500)])
    began = time.monotonic()
    await run_worker(queue, concurrency=2)
    assert await results(handles) == [2 * n for n in range(500)]
    assert time.monotonic() - began < 30  # full batches do not wait for their window
    assert [len(batch) for batch in batches] == [100] * 5
    assert [n for batch in batches for n in batch] == list(range(500))
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.finished_total, stats.failed_total) == (0, 0, 500, 0)


async def test_items_that_gather_in_the_window_run_together(queue: TaskQueue, run_worker: RunWorker) -> None:
    batches: list[list[int]] = []

    @queue.batch_task(size=100, window_ms=5000)
    async def note(items: list[BatchItem]) -> list[None]:
        batches.append(numbers(items))
        return [None] * len(items)

    worker = await run_worker(queue, concurrency=1)
    handles = [await note.enqueue(0)]
    await until(lambda: len(worker.batches) == 1, "it gathers")
    began = time.monotonic()
    assert await handles[0].status() == "running"  # claimed, under a lease
    assert not worker.slots.running  # and without a slot
    handles += [await note.enqueue(n) for n in (1, 2)]
    await results(handles)
    assert batches == [[0, 1, 2]]
    assert 0.2 < time.monotonic() - began < 10


async def test_an_outcome_is_its_own_item(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs: list[tuple[int, int]] = []

    @queue.batch_task(size=4, window_ms=50, max_retries=1, retry=Retry.fixed(0))
    async def work(items: list[BatchItem]) -> list[Any]:
        outcomes: list[Any] = []
        for item in items:
            n = item.args[0]
            runs.append((n, item.context.attempt))
            if n == 1:
                outcomes.append(ValueError("never"))
            elif n == 2 and item.context.attempt == 1:
                outcomes.append(RetryLater(0.01))
            else:
                outcomes.append(n)
        return outcomes

    handles = await queue.enqueue_many([work.message(n) for n in range(4)])
    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="ValueError: never"):
        await handles[1].result(timeout=60)
    assert await results([handles[0], *handles[2:]]) == [0, 2, 3]
    assert sorted(runs) == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]
    (letter,) = await queue.dead_letters("default")
    assert (letter.id, letter.task, letter.state, letter.reason, letter.attempts) == (
        handles[1].id, "work", "failed", "exception", 2,
    )  # fmt: skip
    assert "ValueError: never" in letter.traceback


async def test_raising_fails_all_and_each_is_retried(queue: TaskQueue, run_worker: RunWorker) -> None:
    runs: list[list[int]] = []

    @queue.batch_task(size=3, window_ms=50, max_retries=1, retry=Retry.fixed(0))
    async def work(items: list[BatchItem]) -> list[int]:
        runs.append(numbers(items))
        if len(runs) == 1:
            raise ConnectionError("the database is gone")
        return numbers(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(3)])
    await run_worker(queue)
    assert await results(handles) == [0, 1, 2]
    assert sorted(n for run in runs for n in run) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (None, "returned NoneType, not a list with one outcome for each of its 3 items"),
        ([1, 2], "returned 2 outcomes for 3 items; return one for each, in order"),
        ({"a": 1}, "returned dict, not a list"),
    ],
)
async def test_outcomes_that_match_no_item_fail_all_with_the_reason(
    queue: TaskQueue, run_worker: RunWorker, returned: Any, problem: str
) -> None:
    runs = 0

    @queue.batch_task(size=3, window_ms=50)
    async def work(items: list[BatchItem]) -> Any:
        nonlocal runs
        runs += 1
        return returned

    handles = await queue.enqueue_many([work.message(n) for n in range(3)])
    await run_worker(queue)
    for handle in handles:
        with pytest.raises(TaskExecutionError, match=f"batch task 'work' {problem}"):
            await handle.result(timeout=60)
    assert runs == 1  # a second run would repeat the work and end in the same way
    assert {letter.reason for letter in await queue.dead_letters("default")} == {"bad_outcomes"}


async def test_an_item_has_a_signature_of_its_own(queue: TaskQueue, run_worker: RunWorker) -> None:
    def measurement(when: dt.datetime, value: float = 0.0) -> dt.date: ...

    @queue.batch_task(size=2, window_ms=50, item=measurement)
    async def store(items: list[BatchItem]) -> list[dt.date]:
        return [item.args[0].date() for item in items]

    when = dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
    with pytest.raises(SerializationError, match="parameter 'when'"):
        await store.enqueue("soon")  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="missing a required argument: 'when'"):
        await store.enqueue()  # type: ignore[call-arg]
    handles = [await store.enqueue(when, value=1.5), await store.options(max_retries=0).enqueue(when)]
    await run_worker(queue)
    assert await results(handles) == [when.date()] * 2
    assert await store([BatchItem("id", (when,))]) == [when.date()]  # a plain call runs the function here


async def test_a_timeout_is_of_the_batch_and_each_item_is_retried_by_it(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    attempts: list[int] = []

    @queue.batch_task(size=2, window_ms=500, timeout=0.1, max_retries=1, retry=Retry.fixed(0))
    async def work(items: list[BatchItem]) -> list[int]:
        attempts.extend(item.context.attempt for item in items)
        await asyncio.sleep(60)
        return []

    handles = await queue.enqueue_many([work.message(n) for n in range(2)])
    await run_worker(queue, concurrency=1)
    for handle in handles:
        with pytest.raises(TaskTimeoutError, match=r"longer than its timeout of 0\.1 s"):
            await handle.result(timeout=60)
    assert sorted(attempts) == [1, 1, 2, 2]


async def test_an_item_may_shorten_the_timeout_of_its_batch(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=2, window_ms=60_000, timeout=60, max_retries=0)
    async def work(items: list[BatchItem]) -> list[int]:
        await asyncio.sleep(50)
        return []

    await run_worker(queue)
    handles = [await work.enqueue(1), await work.options(timeout=0.1).enqueue(2)]
    for handle in handles:
        with pytest.raises(TaskTimeoutError):
            await handle.result(timeout=60)


async def test_an_item_cancelled_before_it_runs_leaves_the_batch(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @queue.batch_task(size=3, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        ran.extend(numbers(items))
        return [None] * len(items)

    worker = await run_worker(queue)
    handles = await queue.enqueue_many([work.message(n) for n in range(2)])
    await until(lambda: len(worker.batches) == 2, "they gather")
    assert await handles[0].cancel()
    with pytest.raises(TaskCancelledError):
        await handles[0].result(timeout=60)
    assert len(worker.batches) == 1
    more = await queue.enqueue_many([work.message(n) for n in (2, 3)])
    await results([handles[1], *more])
    assert ran == [1, 2, 3]
    assert await handles[0].status() == "cancelled"


async def test_the_last_item_that_is_cancelled_takes_its_batch_along(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=3, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        return [None] * len(items)

    worker = await run_worker(queue)
    handle = await work.enqueue(1)
    await until(lambda: len(worker.batches) == 1, "it gathers")
    await handle.cancel()

    async def nothing_held() -> bool:
        return (await queue.queue_stats("default")).in_flight == 0

    await until(nothing_held, "its lease is gone")
    assert worker.batches._open == {}


async def test_cancelling_an_item_of_a_running_batch_is_decided_by_its_outcome(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @queue.batch_task(size=2, window_ms=60_000, max_retries=5)
    async def work(items: list[BatchItem]) -> list[Any]:
        running.set()
        await go_on.wait()
        return ["done", ValueError("failed")]

    handles = await queue.enqueue_many([work.message(n) for n in range(2)])
    await run_worker(queue)
    await running.wait()
    for handle in handles:
        assert await handle.cancel()
    go_on.set()
    assert await handles[0].result(timeout=60) == "done"
    with pytest.raises(TaskCancelledError):
        await handles[1].result(timeout=60)


async def test_expired_items_are_dropped_also_while_they_gather(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @queue.batch_task(size=10, window_ms=400)
    async def work(items: list[BatchItem]) -> list[None]:
        ran.extend(numbers(items))
        return [None] * len(items)

    await run_worker(queue)
    late, good = await queue.enqueue_many([work.options(expires=0.2).message(0), work.message(1)])
    await good.result(timeout=60)
    with pytest.raises(TaskExecutionError, match="expired"):
        await late.result(timeout=60)
    assert ran == [1]


async def test_arguments_that_do_not_fit_any_more_bury_their_item_alone(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    def old(n: str) -> None: ...
    def new(n: int) -> int: ...

    producer, consumer = make_queue(), make_queue()

    @producer.batch_task(name="work", item=old)
    async def before(items: list[BatchItem]) -> list[None]: ...

    @consumer.batch_task(name="work", item=new, size=2, window_ms=50)
    async def after(items: list[BatchItem]) -> list[int]:
        return numbers(items)

    handles = [await before.enqueue("one"), await before.enqueue("2")]
    await run_worker(consumer)
    assert await consumer.handle(handles[1].id).result(timeout=60) == 2
    with pytest.raises(TaskExecutionError, match="parameter 'n'"):
        await handles[0].result(timeout=60)


async def test_a_drain_hands_gathered_items_back_in_order_without_an_attempt(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    ran: list[tuple[int, int]] = []

    @queue.batch_task(size=10, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        ran.extend((item.args[0], item.context.attempt) for item in items)
        return [None] * len(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(5)])
    worker = await run_worker(queue)
    await until(lambda: len(worker.batches) == 5, "they gather")
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight) == (5, 0)
    assert not ran
    await run_worker(queue)
    handles += await queue.enqueue_many([work.message(n) for n in range(5, 10)])
    await results(handles)
    assert ran == [(n, 1) for n in range(10)]


async def test_a_cancelled_worker_hands_gathered_items_back_although_it_still_waits_for_calls(
    make_queue: MakeQueue,
) -> None:
    """The items that it returns call for a worker: for itself, as long as its own listener waits."""
    queue = make_queue()

    @queue.batch_task(size=10, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        return [None] * len(items)

    worker = Worker(queue, name="cancelled")
    running = asyncio.create_task(worker.run())
    await queue.enqueue_many([work.message(n) for n in range(5)])
    await until(lambda: len(worker.batches) == 5 and worker.listeners.claiming, "they gather, and it waits for more")
    await asyncio.sleep(0.05)  # its claim has reached Redis
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.in_flight) == (5, 0)


async def test_the_end_of_the_grace_period_hands_back_running_items_too(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(grace=0.1)
    running = asyncio.Event()
    attempts: list[int] = []

    @queue.batch_task(size=2, window_ms=50)
    async def work(items: list[BatchItem]) -> list[None]:
        attempts.extend(item.context.attempt for item in items)
        if len(attempts) == 2:
            running.set()
            await asyncio.sleep(60)
        return [None] * len(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(2)])
    worker = await run_worker(queue)
    await running.wait()
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert (await queue.queue_stats("default")).ready == 2
    await run_worker(queue)
    await results(handles)
    assert attempts == [1, 1, 1, 1]


async def test_a_cordon_hands_gathered_items_back(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=10, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        return [None] * len(items)

    worker = await run_worker(queue)
    await work.enqueue(1)
    await until(lambda: len(worker.batches) == 1, "it gathers")
    await queue.broker.cordon(worker.identity.name, ttl_seconds=60)
    await until(lambda: worker.heartbeat.fields().state == "drained", "it is drained")
    assert (await queue.queue_stats("default")).ready == 1


async def test_gathered_items_keep_their_leases_and_lost_ones_leave(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    ran: list[int] = []

    @queue.batch_task(size=3, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        ran.extend(numbers(items))
        return [None] * len(items)

    worker = await run_worker(queue)
    kept, stolen = await queue.enqueue_many([work.message(n) for n in range(2)])
    await until(lambda: len(worker.batches) == 2, "they gather")

    async def lease_ends() -> dt.datetime:
        ends = (await kept.info()).lease_expires_at
        assert ends is not None
        return ends

    first = await lease_ends()

    async def renewed() -> bool:
        return await lease_ends() > first

    await until(renewed, "its lease lasts longer")
    await white_box.give(queue, {stolen.id: "somebody-else:2"})
    await until(lambda: len(worker.batches) == 1, "what is lost has left")
    more = await queue.enqueue_many([work.message(n) for n in (2, 3)])
    await results([kept, *more])
    assert ran == [0, 2, 3]
    assert worker.tally.lost_acks == 0


async def test_a_batch_whose_items_are_all_lost_is_stopped_and_one_that_keeps_some_goes_on(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    stopped: list[list[int]] = []
    go_on = asyncio.Event()

    @queue.batch_task(size=2, window_ms=50)
    async def work(items: list[BatchItem]) -> list[int]:
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            stopped.append(numbers(items))
            raise
        return numbers(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(4)])
    worker = await run_worker(queue)
    await until(lambda: len(worker.slots.running) == 2, "both run")
    await white_box.give(queue, {handle.id: "somebody-else:2" for handle in handles[:3]})
    await until(lambda: stopped, "one is stopped")
    assert stopped == [[0, 1]]
    go_on.set()
    assert await handles[3].result(timeout=60) == 3
    await until(lambda: not worker.slots.running and not worker.held, "nothing is left")
    assert worker.tally.lost_acks == 0


async def test_other_tasks_of_the_queue_are_neither_starved_nor_hoarded(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    go_on = asyncio.Event()
    started: list[int] = []

    @queue.batch_task(size=50, window_ms=100)
    async def batch(items: list[BatchItem]) -> list[int]:
        return numbers(items)

    @queue.task
    async def slow(n: int) -> int:
        started.append(n)
        await go_on.wait()
        return n

    # Batch items come first, so that the worker learns to claim far more tasks than it has slots. The others come when
    # these have run: a batch that gathers has no slot yet, and the slow tasks would take both for good.
    first = await queue.enqueue_many([batch.message(n) for n in range(500)])
    worker = await run_worker(queue, concurrency=2)
    await results(first)
    mixed: list[Any] = []
    for n in range(200):
        mixed += [slow.message(n), batch.message(n)]
    handles = await queue.enqueue_many(mixed)
    await until(lambda: len(started) == 2, "both slots are taken")

    async def is_back() -> bool:
        # The number of prefetched tasks follows the rate. When the rate falls, surplus tasks are handed back.
        stats = await queue.queue_stats("default")
        ordinary = [task_id for task_id in worker.held if task_id not in worker.batches._gathered]
        ahead = worker.prefetch.size
        return (
            stats.in_flight == len(worker.held) <= 2 + 50 + ahead
            and len(ordinary) - len(worker.slots.running) <= ahead
            and not worker.outbox
        )

    await until(is_back, "what was too much is back")
    second = make_queue()
    second.application.registry = queue.registry
    await run_worker(second, concurrency=4)
    await until(lambda: len(started) >= 6, "another worker gets its share at once")
    go_on.set()
    assert await results(handles) == [n // 2 for n in range(400)]
    assert started[:2] == [0, 1]
    assert sorted(started) == list(range(200))


async def test_a_batch_that_waits_for_a_slot_goes_before_later_tasks(queue: TaskQueue, run_worker: RunWorker) -> None:
    order: list[str] = []
    go_on = asyncio.Event()

    @queue.batch_task(size=10, window_ms=60_000)
    async def batch(items: list[BatchItem]) -> list[None]:
        order.append("batch")
        return [None] * len(items)

    @queue.task
    async def task(name: str) -> None:
        order.append(name)
        if name == "first":
            await go_on.wait()

    worker = await run_worker(queue, concurrency=1)
    gathered = await batch.enqueue(1)
    await until(lambda: len(worker.batches) == 1, "it gathers")
    first = await task.enqueue("first")
    await until(lambda: order, "the first has the slot")
    worker.batches.move(61)  # only now, however busy the machine is
    await until(lambda: worker.slots.waiting, "its window has passed, and there is no slot")
    last = await task.enqueue("last")
    go_on.set()
    await results([gathered, first, last])
    assert order == ["first", "batch", "last"]


async def test_batches_work_from_a_queue_that_the_call_names(queue: TaskQueue, run_worker: RunWorker) -> None:
    sizes: list[int] = []

    @queue.batch_task(size=20, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        sizes.append(len(items))
        return [None] * len(items)

    handles = await queue.enqueue_many([work.options(queue="other").message(n) for n in range(100)])
    await run_worker(queue, queues=["other"], concurrency=1)
    await results(handles)
    assert sizes == [20] * 5


async def test_the_partitions_of_a_queue_gather_together(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": 4}])
    sizes: list[int] = []

    @queue.batch_task(size=50, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[int]:
        sizes.append(len(items))
        return numbers(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(200)])
    await run_worker(queue, concurrency=2)
    assert await results(handles) == list(range(200))
    assert sizes == [50] * 4


async def test_a_partition_that_is_empty_takes_no_room_of_a_batch_from_the_others(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": 4}])
    sizes: list[int] = []

    @queue.batch_task(size=50, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[int]:
        sizes.append(len(items))
        return numbers(items)

    claims: list[int] = []
    step = queue.broker.step

    async def slow_step(*arguments: Any) -> Any:
        reply = await step(*arguments)
        claims.append(len(reply.claims))
        await asyncio.sleep(
            0.05
        )  # a busy Redis: there is time to ask in each turn whether the empty one is still empty
        return reply

    monkeypatch.setattr(queue.broker, "step", slow_step)
    keys = [key for key in map(str, range(1000)) if spread("default", 4, key) != "default"][:200]
    handles = await queue.enqueue_many([work.options(unique_key=key).message(n) for n, key in enumerate(keys)])
    await run_worker(queue, concurrency=2)
    assert sorted(await results(handles)) == list(range(200))
    assert sizes == [50] * 4
    assert sum(n > 0 for n in claims) < 40, "most claims were of one task or two"


async def test_a_plain_function_handles_batches_in_a_thread(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=3, window_ms=50)
    def work(items: list[BatchItem]) -> list[str]:
        return [threading.current_thread().name for _ in items]

    handles = await queue.enqueue_many([work.message(n) for n in range(3)])
    await run_worker(queue)
    assert all(name.startswith("taskfleet-task") for name in await results(handles))


class Store:
    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *_: object) -> None: ...


async def test_hooks_dependencies_and_progress_of_a_batch(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    seen: list[list[str]] = []

    class Watching(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            raise AssertionError("not for batches")

        async def execute_batch(self, tasks: Sequence[TaskContext], call_next: CallNext) -> Any:
            seen.append([task.id for task in tasks])
            return await call_next()

    queue = make_queue(middleware=[Watching()])
    go_on = asyncio.Event()

    @queue.batch_task(size=2, window_ms=60_000)
    async def work(items: list[BatchItem], store: Store = Depends(Store)) -> list[str]:
        with pytest.raises(RuntimeError, match=r"use item\.context"):
            current_task()
        await items[1].context.progress(1, 2)
        await go_on.wait()
        return [type(store).__name__] * len(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(2)])
    await run_worker(queue)
    found = await until(handles[1].progress, "the item has reported")
    assert (found.done, found.total) == (1, 2)
    assert await handles[0].progress() is None
    go_on.set()
    assert await results(handles) == ["Store", "Store"]
    assert seen == [[handle.id for handle in handles]]
    assert await handles[1].progress() is None


async def test_one_slot_is_busy_not_one_for_each_item(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=50, window_ms=60_000)
    async def work(items: list[BatchItem]) -> list[None]:
        await asyncio.sleep(0.3)
        return [None] * len(items)

    handles = await queue.enqueue_many([work.message(n) for n in range(50)])
    worker = await run_worker(queue)
    await results(handles)
    await until(lambda: not worker.held, "all is recorded")
    busy = (await queue.queue_stats("default")).busy_ms_total
    assert 250 <= busy < 8000  # fifty runs would be 15 s
    assert worker.tally.outcomes() == {("default", "succeeded"): 50}


async def test_many_workers_handle_each_item_once(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    ran: list[int] = []
    queues = [make_queue() for _ in range(3)]
    tasks: list[BatchTask[..., Any, Any]] = []
    for queue in queues:

        @queue.batch_task(size=30, window_ms=20)
        async def work(items: list[BatchItem]) -> list[int]:
            ran.extend(numbers(items))
            await asyncio.sleep(0.001)
            return numbers(items)

        tasks.append(work)
    handles = await queues[0].enqueue_many([tasks[0].message(n) for n in range(2000)])
    workers: list[Worker] = [await run_worker(queue, concurrency=2) for queue in queues]
    assert await results(handles) == list(range(2000))
    assert sorted(ran) == list(range(2000))
    await until(lambda: not any(worker.held for worker in workers), "nothing is held")


@pytest.mark.parametrize("ends", ["succeeds", "fails", "is stopped"])
async def test_the_run_of_a_batch_is_one_run_in_the_figures(
    make_queue: MakeQueue, run_worker: RunWorker, ends: str
) -> None:
    queue = make_queue()

    @queue.batch_task(size=10, window_ms=60_000, max_retries=0, timeout=0.3 if ends == "is stopped" else None)
    async def store(items: list[BatchItem]) -> list[None]:
        [batch] = worker.slots.running.values()
        assert isinstance(batch, BatchJob)
        waited.extend(job.started - job.ready for job in batch.items)
        await asyncio.sleep(60 if ends == "is stopped" else 0.3)
        if ends == "fails":
            raise ValueError("no")
        return [None for _ in items]

    waited: list[float] = []  # by each item, until its batch began
    enqueued = time.monotonic()
    await queue.enqueue_many([store.message(n) for n in range(30)])
    await queue.pause("default")  # until the batches can know their worker
    worker = await run_worker(queue, concurrency=1)
    await queue.resume("default")
    await until(lambda: worker.tally.finished == 3, "all have run")
    [figures] = worker.tally.tasks.values()
    assert sum(figures.counts.values()) == sum(figures.wait_buckets) == 30
    assert sum(figures.run_buckets) == 3
    assert sum(figures.run_buckets[:5]) == 0  # up to 0.1 s
    assert 0.9 <= figures.run_seconds < 7
    # Each item has waited until its batch began, and not for the run.
    assert figures.wait_seconds == pytest.approx(sum(max(0.0, seconds) for seconds in waited), abs=0.1)
    assert max(waited) <= time.monotonic() - enqueued
    await until(lambda: not worker.held, "all is recorded")
    stats = await queue.queue_stats("default")
    assert abs(stats.busy_ms_total / 1000 - figures.run_seconds) < 0.1
