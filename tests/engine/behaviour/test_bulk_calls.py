"""`task.enqueue_many`: many calls of one task, given as their arguments."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pytest

from taskfleet import BatchItem, BulkEnqueueError, Middleware, QueueFullError, TaskQueue
from taskfleet.errors import EventLoopRunningError
from taskfleet.producer import plain_calls
from taskfleet.protocol.envelope import encode
from taskfleet.protocol.partitions import Partition
from taskfleet.testing import in_memory
from tests.engine.conftest import MakeQueue, RunWorker


@dataclasses.dataclass
class Row:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is negative")


def define(queue: TaskQueue) -> Any:
    @queue.task
    async def add(a: int, b: str) -> str:
        return f"{a}{b}"

    return add


async def test_calls_run_and_their_handles_have_their_order() -> None:
    queue = TaskQueue("memory://bulk-calls")
    add = define(queue)
    with in_memory(queue) as worker:
        handles = await add.enqueue_many((n, "x") for n in range(2500))
        assert len(handles) == 2500 == len({handle.id for handle in handles})
        assert handles[7].id == list(handles)[7].id == handles[5:9][2].id
        await worker.run_until_idle()
        assert [await handles[n].result() for n in (0, 1, 2499, -1)] == ["0x", "1x", "2499x", "2499x"]
        assert list(await add.enqueue_many([])) == []


async def test_bad_calls_are_named_by_position_and_nothing_is_sent() -> None:
    queue = TaskQueue("memory://bulk-bad-calls")
    add = define(queue)
    with in_memory(queue) as worker:
        with pytest.raises(BulkEnqueueError) as raised:
            await add.enqueue_many([(1, "x"), (2,), (3, "y"), (2**70, "z"), (4, object())])
        assert [index for index, _ in raised.value.errors] == [1, 3, 4]
        with pytest.raises(TypeError, match=r"add\.enqueue_many: call 1: .* write \(argument,\)"):
            await add.enqueue_many([(1, "x"), "y"])
        with pytest.raises(TypeError, match="no list of calls"):
            await add.enqueue_many("ab")
        assert worker.enqueued() == []


async def test_hooks_see_every_message() -> None:
    seen: list[Any] = []

    class Hook(Middleware):
        async def enqueue(self, messages: Any, call_next: Any) -> None:
            seen.extend(message.args for message in messages)
            await call_next()

    queue = TaskQueue("memory://bulk-hooks", middleware=[Hook()])
    add = define(queue)
    with in_memory(queue):
        assert len(await add.enqueue_many([(1, "a"), (2, "b")])) == 2
    assert seen == [(1, "a"), (2, "b")]


async def test_options_of_a_call_apply_to_all() -> None:
    queue = TaskQueue("memory://bulk-options", queues=[{"name": "short", "max_length": 2}])
    add = define(queue)
    with in_memory(queue) as worker:
        one, other = await add.options(unique_key="k").enqueue_many([(1, "a"), (2, "b")])
        assert one.id == other.id
        short = add.options(queue="short")
        with pytest.raises(QueueFullError):
            await short.enqueue_many([(n, "") for n in range(3)])
        assert len(await short.enqueue_many([(n, "") for n in range(2)])) == 2
        assert len(worker.enqueued("add")) == 3


@pytest.mark.parametrize("settings", [None, {"p": "parent", "x": [1, None]}])
def test_a_plain_call_is_stored_as_its_message(settings: dict[str, Any] | None) -> None:
    queue = TaskQueue("memory://bulk-bytes")

    @queue.task
    async def keep(a: int, b: str, c: float, d: bool, e: bytes) -> None: ...

    calls: list[Any] = [
        (n * 7919 ** (n % 5), "ä" * n, n / 3, n % 2 == 0, bytes([n % 256]) * (n * 3)) for n in range(300)
    ]
    found = plain_calls.envelopes(keep.definition, calls, settings, 1_000_000, 10_000_000)
    assert found is not None
    assert found == [encode("keep", list(call), {}, settings or {}) for call in calls]
    assert found == [keep.message(*call).encode(1_000_000, more_settings=settings)[1] for call in calls]
    assert plain_calls.envelopes(keep.definition, calls, settings, 10, 10_000_000) is None
    together = sum(map(len, found))
    assert plain_calls.envelopes(keep.definition, calls, settings, 1_000_000, together) == found
    assert plain_calls.envelopes(keep.definition, calls, settings, 1_000_000, together - 1) is None


async def test_the_items_of_a_batch_task_are_checked_by_their_class() -> None:
    queue = TaskQueue("memory://bulk-items")

    @queue.batch_task(item_class=Row)
    async def store(rows: list[BatchItem[Row]]) -> list[None]:
        return [None for _ in rows]

    with in_memory(queue), pytest.raises(BulkEnqueueError) as raised:
        await store.enqueue_many([(1,), (-1,)])
    assert [index for index, _ in raised.value.errors] == [1]


async def test_arguments_that_need_encoding_travel_too() -> None:
    queue = TaskQueue("memory://bulk-dates")

    @queue.task
    async def later(day: dt.date) -> dt.date:
        return day + dt.timedelta(days=1)

    with in_memory(queue) as worker:
        handles = await later.enqueue_many([(dt.date(2026, 1, n),) for n in (1, 2)])
        await worker.run_until_idle()
        assert await handles[1].result() == dt.date(2026, 1, 3)


async def test_a_bulk_that_is_partly_there_adds_the_rest(queue: TaskQueue) -> None:
    items: list[Any] = [(f"{n:017x}", b"\x94\x01\xa4none\x90\x80", 0, 0, None) for n in range(1, 6)]
    await queue.broker.enqueue(Partition("default"), items[1:3])
    await queue.broker.enqueue(Partition("default"), items)
    await queue.broker.enqueue(Partition("default"), [*items, items[0]])
    assert (await queue.queue_stats("default")).ready == 5


async def test_keys_and_limits_hold_for_each_call(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    running, most = 0, 0

    @queue.task(fair_key=lambda who, n: who, limit_key="one")
    async def work(who: str, n: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return f"{who}{n}"

    handles = await work.enqueue_many([("a", 1), ("a", 2), ("b", 1)])
    once = work.options(unique_key="same", delay=0.05)
    first, second = await once.enqueue_many([("c", 1), ("c", 2)])
    assert first.id == second.id
    await run_worker(queue)
    found = await asyncio.gather(*(handle.result(timeout=60) for handle in [*handles, first]))
    assert (found, most) == (["a1", "a2", "b1", "c1"], 1)


async def test_calls_spread_over_partitions_in_order(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": 3}])
    add = define(queue)
    handles = await add.enqueue_many((n, "") for n in range(200))
    assert len({handle.partition for handle in handles}) == 3
    assert (await queue.queue_stats("default")).ready == 200
    await run_worker(queue)
    assert await asyncio.gather(*(handle.result(timeout=60) for handle in handles)) == [str(n) for n in range(200)]


async def test_one_bad_call_among_many_leaves_the_queue_empty(make_queue: MakeQueue) -> None:
    queue = make_queue()
    add = define(queue)
    calls: list[Any] = [(n, "x") for n in range(3000)]
    for bad in [(1,), (1, "x", 2), ("one", "x"), (2**64, "x"), (1, "\ud800"), (1, object())]:
        calls[1500] = bad
        with pytest.raises(BulkEnqueueError) as raised:
            await add.enqueue_many(calls)
        assert [index for index, _ in raised.value.errors] == [1500]
        assert (await queue.queue_stats("default")).ready == 0
    assert len(await add.enqueue_many(calls[:1500])) == (await queue.queue_stats("default")).ready == 1500


async def test_calls_without_an_event_loop(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    add = define(queue)
    with pytest.raises(EventLoopRunningError, match=r"await add\.enqueue_many"):
        add.enqueue_many_sync([(1, "x")])

    def send() -> list[str]:
        handles = [
            *add.enqueue_many_sync((n, "x") for n in range(3)),
            *add.options(delay=0.01).enqueue_many_sync([(3, "y")]),
        ]
        return [handle.result_sync(timeout=60) for handle in handles]

    await run_worker(queue)
    assert await asyncio.to_thread(send) == ["0x", "1x", "2x", "3y"]
