"""Chains, groups, chords and graphs."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest

from taskfleet import (
    ConfigurationError,
    SerializationError,
    Task,
    TaskCancelledError,
    TaskExecutionError,
    TaskNotFoundError,
    TaskQueue,
    chain,
    chord,
    group,
)
from taskfleet.protocol.item import ITEM_EXTRAS, ITEM_ID, Extras, Waits
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box


@dataclass
class Point:
    x: int
    raw: bytes


async def test_a_chain_passes_each_result_on(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def start(n: int) -> int:
        return n

    @queue.task
    async def add(before: int, n: int, *, times: int = 1) -> int:
        return (before + n) * times

    handle = await queue.enqueue(chain(start.message(1), add.message(2), add.message(3, times=10)))
    assert await handle.status() == "blocked"
    assert (await queue.queue_stats("default")).blocked == 2
    await run_worker(queue)
    assert await handle.result(timeout=60) == 60


async def test_typed_results_arrive_typed(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def make(x: int) -> Point:
        return Point(x, bytes([x, 255]))

    @queue.task
    async def shift(point: Point, by: int) -> Point:
        return Point(point.x + by, point.raw * 2)

    @queue.task
    async def total(points: list[Point]) -> int:
        return sum(point.x + len(point.raw) for point in points)

    @queue.task
    async def untyped(points):  # type: ignore[no-untyped-def]
        return [point["x"] for point in points]

    await run_worker(queue)
    result = await (await queue.enqueue(chain(make.message(1), shift.message(2)))).result(timeout=60)
    assert result == Point(3, b"\x01\xff\x01\xff")
    members = [make.message(n) for n in range(3)]
    assert await (await queue.enqueue(chord(members, total.message()))).result(timeout=60) == 9
    assert await (await queue.enqueue(chord(members, untyped.message()))).result(timeout=60) == [0, 1, 2]


async def test_a_group_gives_the_results_in_order(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def late(n: int) -> int:
        await asyncio.sleep((3 - n) / 100)
        return n

    await run_worker(queue)
    handle = await queue.enqueue(group(*(late.message(n) for n in range(3)), group(late.message(0), late.message(1))))
    assert await handle.result(timeout=60) == [0, 1, 2, [0, 1]]
    assert await handle.statuses() == ["succeeded"] * 5


async def test_a_large_chord_calls_back_once_with_all_results(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=100)
    calls: list[list[int]] = []

    @queue.task
    async def square(n: int) -> int:
        return n * n

    @queue.task
    async def collect(squares: list[int]) -> int:
        calls.append(squares)
        return len(squares)

    await run_worker(queue)
    await run_worker(queue)
    handle = await queue.enqueue(chord([square.message(n) for n in range(2500)], collect.message()))
    assert await handle.result(timeout=30) == 2500
    assert calls == [[n * n for n in range(2500)]]


async def test_workflows_cross_queues(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=["default", "reports", "mail"])

    @queue.task
    async def load(n: int) -> int:
        return n

    @queue.task(queue="reports")
    async def report(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(queue="mail")
    async def mail(number: int) -> str:
        return f"sum {number}"

    await run_worker(queue)
    handle = await queue.enqueue(
        chain(group(load.message(1), load.options(queue="mail").message(2)), report.message(), mail.message())
    )
    assert handle.queue == "mail"
    assert await handle.result(timeout=60) == "sum 3"
    assert all(stats.blocked == 0 for stats in (await queue.get_metrics()).values())


async def test_a_failure_cancels_all_that_comes_after_and_names_the_cause(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=["default", "other"])
    ran: list[str] = []

    @queue.task(max_retries=0)
    async def fails() -> int:
        raise ValueError("the disk is full")

    @queue.task
    async def step(before: int, name: str) -> int:
        ran.append(name)
        return before

    await run_worker(queue)
    handle = await queue.enqueue(
        chain(fails.message(), step.message("a"), step.options(queue="other").message("b"), step.message("c"))
    )
    with pytest.raises(
        TaskCancelledError, match=r"which it waits for, cancelled: task .*, which it waits for"
    ) as caught:
        await handle.result(timeout=60)
    assert "the disk is full" in str(caught.value)
    assert not ran
    stats = await queue.get_metrics()
    assert sum(figures.blocked for figures in stats.values()) == 0


async def test_a_failed_member_cancels_the_callback_and_the_others_go_on(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    ran: Counter[int] = Counter()

    @queue.task(max_retries=0)
    async def member(n: int) -> int:
        ran[n] += 1
        if n == 1:
            raise ValueError("one is bad")
        await asyncio.sleep(0.05)
        return n

    @queue.task
    async def callback(numbers: list[int]) -> None:
        ran[-1] += 1

    await run_worker(queue)
    handle = await queue.enqueue(chord([member.message(n) for n in range(3)], callback.message()))
    with pytest.raises(TaskCancelledError, match="one is bad"):
        await handle.result(timeout=60)
    await until(lambda: _finished(queue, 4), "the others have ended")
    assert ran == {0: 1, 1: 1, 2: 1}


async def _finished(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).finished_total == count


async def test_cancelling_a_waiting_task_cancels_those_after_it(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def one() -> int:
        return 1

    @queue.task
    async def two(n: int) -> int:
        return n

    first = await one.enqueue()
    second = await two.options(after=[first]).enqueue(2)
    third = await two.options(after=[second, first]).enqueue(3)
    assert await second.cancel()
    assert await second.cancel() is False
    with pytest.raises(TaskCancelledError, match="cancelled before it ran"):
        await third.result(timeout=60)
    await run_worker(queue)
    assert await first.result(timeout=60) == 1


async def test_after_builds_any_graph(queue: TaskQueue, run_worker: RunWorker) -> None:
    order: list[str] = []

    @queue.task
    async def node(name: str) -> str:
        order.append(name)
        return name

    a = await node.enqueue("a")
    b = await node.options(after=[a], delay=0.1).enqueue("b")
    c = await node.options(after=[a]).enqueue("c")
    d = await node.options(after=[b, c]).enqueue("d")
    assert [await handle.status() for handle in (a, b, c, d)] == ["ready", "blocked", "blocked", "blocked"]
    await run_worker(queue)
    assert await d.result(timeout=60) == "d"
    assert order == ["a", "c", "b", "d"]


async def test_after_an_ended_task_runs_or_is_cancelled_at_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def task(fail: bool) -> int:
        if fail:
            raise ValueError("broken")
        return 1

    await run_worker(queue)
    good, bad = await task.enqueue(False), await task.enqueue(True)
    assert await good.result(timeout=60) == 1
    with pytest.raises(TaskExecutionError):
        await bad.result(timeout=60)
    assert await (await task.options(after=[good]).enqueue(False)).result(timeout=60) == 1
    with pytest.raises(TaskCancelledError, match="broken"):
        await (await task.options(after=[good, bad]).enqueue(False)).result(timeout=60)
    with pytest.raises(TaskNotFoundError, match="never-was"):
        await task.options(after=[queue.handle("never-was")]).enqueue(False)
    assert (await queue.queue_stats("default")).blocked == 0


async def test_results_are_passed_on_even_when_none_are_kept(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(result_ttl=0)
    seen: list[int] = []

    @queue.task
    async def one() -> int:
        return 1

    @queue.task
    async def look(n: int) -> None:
        seen.append(n)

    await run_worker(queue)
    await queue.enqueue(chain(one.message(), look.message()))
    await until(lambda: seen, "it has come")
    assert seen == [1]


async def test_class_tasks_take_part(queue: TaskQueue, run_worker: RunWorker) -> None:
    class WorkflowStep(Task):
        n: int

        async def execute(self) -> int:
            return self.n

    @queue.task
    async def double(n: int) -> int:
        return 2 * n

    await run_worker(queue)
    handle = await queue.enqueue(chain(WorkflowStep(n=1), WorkflowStep(n=4), double.message()))
    assert await handle.result(timeout=60) == 8


async def test_a_redelivered_member_counts_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    calls: list[list[int]] = []

    @queue.task
    async def member(n: int) -> int:
        return n

    @queue.task
    async def callback(numbers: list[int]) -> None:
        calls.append(numbers)

    handle = await queue.enqueue(chord([member.message(1), member.message(2)], callback.message()))
    options = queue.application.options_of("default")
    gone = await queue.broker.step("default", options, "gone", 1, [])
    await white_box.end_lease(queue, gone.claims[0][1])
    await run_worker(queue)
    await handle.result(timeout=60)
    # The first owner comes back and reports its outcome.
    late = (gone.claims[0][1], 1, "s", 0, b"\x92\xa9succeeded\x63", 1000, 0)
    assert (await queue.broker.step("default", options, "gone", 0, [late])).stale == 1
    assert calls == [[1, 2]]


async def test_bad_workflows_are_errors_that_name_the_mistake(queue: TaskQueue) -> None:
    @queue.task
    async def none() -> int:
        return 1

    @queue.task
    async def needs_two(a: int, b: int) -> int:
        return a + b

    with pytest.raises(ConfigurationError, match=r"group\(\) needs at least one"):
        group()
    with pytest.raises(ConfigurationError, match=r"chain\(\): a function is no member"):
        chain(lambda: 1)  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="too many positional arguments"):
        await queue.enqueue(chain(none.message(), needs_two.message(1, 2)))
    with pytest.raises(SerializationError, match="missing a required argument: 'b'"):
        await queue.enqueue(chain(none.message(), needs_two.message()))
    with pytest.raises(ConfigurationError, match="unique_key cannot be used inside a workflow"):
        await queue.enqueue(chain(none.message(), needs_two.options(unique_key="k").message(1)))
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.blocked, stats.enqueued_total) == (0, 0, 0)


async def test_a_workflow_that_was_never_sent_whole_is_dropped(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> None: ...

    message = task.message()
    item = (*message.encode(1000)[:ITEM_EXTRAS], Extras(waits=Waits(1, 0, 50)))
    await queue.broker.enqueue("default", [item])  # the sender dies here
    handle = queue.handle(item[ITEM_ID])
    assert await handle.status() == "blocked"
    await run_worker(queue)
    with pytest.raises(TaskCancelledError, match="never sent whole"):
        await handle.result(timeout=60)


async def test_the_worker_whose_task_releases_a_delayed_one_learns_when_it_is_due(queue: TaskQueue) -> None:
    @queue.task
    async def node() -> None: ...

    first = await node.enqueue()
    second = await node.options(after=[first], delay=5).enqueue()
    options = queue.application.options_of("default")
    await queue.broker.step("default", options, "w", 1, [])
    reply = await queue.broker.step("default", options, "w", 1, [(first.id, 1, "s", 0, b"", 0, 0)])
    assert await second.status() == "delayed"
    assert 4000 < reply.horizon_ms <= 5001
