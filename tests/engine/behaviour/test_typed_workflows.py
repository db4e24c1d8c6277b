"""What type checkers are told is what happens: partial messages, tuples of results, two timeouts, batch items."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from taskfleet import (
    BatchItem,
    BulkEnqueueError,
    ConfigurationError,
    Message,
    ResultTimeoutError,
    RunTimeoutError,
    SerializationError,
    Task,
    TaskExecutionError,
    TaskQueue,
    TaskTimeoutError,
    chain,
    chord,
    group,
)
from tests.engine.conftest import RunWorker

NO_TASK_BEFORE = r"total\.partial\(…\) leaves its first argument to the task before it, and there is none"


class Shop:
    """The tasks of these tests, defined on one queue."""

    def __init__(self, queue: TaskQueue) -> None:
        @queue.task
        async def load(shop: str) -> list[int]:
            return [len(shop), 2, 3]

        @queue.task
        async def total(points: list[int], tax: int = 0) -> int:
            return sum(points) + tax

        @queue.task
        async def spell(n: int, *, unit: str = "") -> str:
            return f"{n}{unit}"

        @queue.task
        async def kinds(results: Any) -> list[str]:
            return [type(results).__name__, *[type(each).__name__ for each in results]]

        self.load, self.total, self.spell, self.kinds = load, total, spell, kinds


@pytest.fixture
def shop(queue: TaskQueue) -> Shop:
    return Shop(queue)


async def test_a_partial_message_gets_its_first_argument_from_the_task_before(
    queue: TaskQueue, run_worker: RunWorker, shop: Shop
) -> None:
    await run_worker(queue)
    three = chain(shop.load.message("paris"), shop.total.partial(tax=1), shop.spell.partial(unit="€"))
    assert await (await queue.enqueue(three)).result(timeout=60) == "11€"
    later = chain(shop.load.message("x"), shop.total.options(delay=0.05).partial(2).to("default"))
    assert await (await queue.enqueue(later)).result(timeout=60) == 8
    fan_out = chain(shop.load.message("x"), group(shop.total.partial(), shop.total.partial(tax=5)))
    assert await (await queue.enqueue(fan_out)).result(timeout=60) == (6, 11)
    gathered = chord([shop.total.message([1]), shop.total.message([2])], shop.total.partial(tax=1))
    assert await (await queue.enqueue(gathered)).result(timeout=60) == 4


async def test_a_partial_message_without_a_task_before_is_refused_and_adds_nothing(
    queue: TaskQueue, shop: Shop
) -> None:
    partial: Any = shop.total.partial(tax=1)
    refused: list[Callable[[], Any]] = [
        lambda: queue.enqueue(partial),
        lambda: queue.send(partial),
        lambda: queue.schedule(partial, delay=1),
        lambda: queue.enqueue(chain(partial, shop.spell.partial())),
        lambda: queue.enqueue(group(shop.load.message("x"), partial)),
        lambda: queue.enqueue(chord([partial], shop.spell.partial())),
    ]
    for call in refused:
        with pytest.raises(ConfigurationError, match=NO_TASK_BEFORE):
            await call()
    with pytest.raises(BulkEnqueueError, match=NO_TASK_BEFORE):
        await queue.enqueue_many([shop.load.message("x"), partial])
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.delayed, stats.blocked) == (0, 0, 0)


async def test_a_partial_message_is_a_message(queue: TaskQueue, shop: Shop) -> None:
    partial = shop.total.partial(tax=1)
    assert isinstance(partial, Message)
    assert (partial.kwargs, partial.queue, partial.to("high").queue) == ({"tax": 1}, "default", "high")

    @queue.task
    async def clean_up(*, force: bool = False) -> None: ...

    with pytest.raises(ConfigurationError, match=r"takes no argument by position .* write clean_up\.message\(…\)"):
        clean_up.partial()  # type: ignore[misc]
    with pytest.raises(SerializationError, match="parameter 'tax'"):
        await queue.enqueue(chain(shop.load.message("x"), shop.total.partial(tax="much")))  # type: ignore[arg-type]
    twice: Any = shop.total.partial
    for member in (twice(points=[1]), shop.total.message([1], 2)):
        with pytest.raises(
            SerializationError, match=r"the task before it gives .* leave that out, as in total.partial\("
        ):
            await queue.enqueue(chain(shop.load.message("x"), member))


async def test_the_results_of_a_group_are_a_tuple_and_its_callback_gets_a_list(
    queue: TaskQueue, run_worker: RunWorker, shop: Shop
) -> None:
    await run_worker(queue)
    members = [shop.total.message([n]) for n in range(8)]
    for count in (1, 2, 6, 7, 8):
        handle = await queue.enqueue(group(*members[:count]))
        results = await handle.result(timeout=60)
        assert isinstance(results, tuple)
        assert results == tuple(range(count))
        assert await asyncio.to_thread(handle.result_sync, 60) == results
    nested = await (await queue.enqueue(group(members[0], group(members[1], members[2])))).result(timeout=60)
    assert nested == (0, (1, 2))
    assert isinstance(nested[1], tuple)
    behind = await queue.enqueue(chord(group(members[0], shop.spell.message(1)), shop.kinds.partial()))
    assert await behind.result(timeout=60) == ["list", "int", "str"]


async def test_results_of_a_group_equal_the_list_that_they_were_before(
    queue: TaskQueue, run_worker: RunWorker, shop: Shop
) -> None:
    await run_worker(queue)
    handle = await queue.enqueue(group(shop.total.message([1]), group(shop.spell.message(2))))
    results: Any = await handle.result(timeout=60)
    assert results == [1, ["2"]]
    assert [1, ["2"]] == results  # noqa: SIM300
    assert results == (1, ("2",))
    assert not results != [1, ["2"]]  # noqa: SIM202
    assert results != [1, ["3"]]
    assert results != (1, ("2",), 3)
    assert hash(results) == hash((1, ("2",)))
    assert json.dumps(results) == '[1, ["2"]]'


async def test_to_stop_waiting_and_to_run_too_long_are_two_errors(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(timeout=0.1, max_retries=0)
    async def endless() -> None:
        await asyncio.Event().wait()

    handle = await endless.enqueue()
    with pytest.raises(ResultTimeoutError, match=r"has no result after 0\.02 s") as waited:
        await handle.result(timeout=0.02)
    assert (waited.value.task_id, waited.value.timeout_seconds) == (handle.id, 0.02)
    assert not isinstance(waited.value, TaskExecutionError)  # the task has not ended
    await run_worker(queue)
    for call in (lambda: handle.result(timeout=60), lambda: asyncio.to_thread(handle.result_sync, 60), handle.result):
        with pytest.raises(RunTimeoutError, match=r"ran longer than its timeout of 0\.1 s") as ran:
            await call()
        assert (ran.value.task_id, ran.value.timeout_seconds) == (handle.id, 0.1)
    assert not isinstance(ran.value, ResultTimeoutError)
    assert isinstance(ran.value, TaskExecutionError)
    for error in (waited.value, ran.value):
        assert isinstance(error, TaskTimeoutError)
        assert isinstance(error, TimeoutError)


async def test_a_class_task_runs_with_the_options_of_its_class(queue: TaskQueue, run_worker: RunWorker) -> None:
    started: list[int] = []

    class Weigh(Task[int], max_retries=1, timeout=5, unique_key=lambda task: f"weigh:{task.order}"):
        order: int

        def execute(self) -> int:
            started.append(self.order)
            return self.order

    first, second = [await queue.enqueue(Weigh(order=7)) for _ in range(2)]
    assert first.id == second.id  # by its unique key
    other = await queue.enqueue(Weigh(order=8).options(unique_key="another"))
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in (first, other)] == [7, 8]
    assert sorted(started) == [7, 8]


@dataclass
class Row:
    name: str
    quantity: int = 1


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(gt=0)


async def test_a_batch_item_is_of_its_class(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.batch_task(size=10, window_ms=10, item_class=Row, max_retries=0)
    async def store(items: list[BatchItem[Row]]) -> list[float | Exception]:
        assert all(isinstance(each.value, Row) for each in items)
        return [each.value.quantity / 2 if each.value.name else ValueError("a row needs a name") for each in items]

    @queue.batch_task(size=10, window_ms=10, item_class=Order)
    def number(items: list[BatchItem[Order]]) -> list[int]:
        return [each.value.number for each in items]

    await run_worker(queue)
    handles = await queue.enqueue_many([store.message("a"), store.message("b", quantity=4), store.message(name="c")])
    assert [await handle.result(timeout=60) for handle in handles] == [0.5, 2.0, 0.5]
    assert await (await number.enqueue(number=3)).result(timeout=60) == 3
    with pytest.raises(TaskExecutionError, match="a row needs a name"):
        await (await store.enqueue("")).result(timeout=60)
    for call, problem in (
        (lambda: store.enqueue("a", 1, 2), "too many positional arguments"),  # type: ignore[call-arg]
        (lambda: store.enqueue("a", quantity="x"), "parameter 'quantity'"),  # type: ignore[arg-type]
        (lambda: number.enqueue(number=0), "task 'number', Order: .*greater than 0"),
    ):
        with pytest.raises(SerializationError, match=problem):
            await call()


def test_an_item_has_a_class_or_a_function(queue: TaskQueue) -> None:
    def row(name: str) -> int:
        raise NotImplementedError

    def work(items: list[BatchItem]) -> list[int]:
        raise NotImplementedError

    for options, problem in (
        ({"item_class": Row, "item": row}, "item and item_class both say"),
        ({"item_class": row}, r"item_class=.* is no class"),
        ({"item": Row}, r"item=.* is no function; .* or a class as item_class="),
    ):
        decorate: Any = queue.batch_task
        with pytest.raises(ConfigurationError, match=problem):
            decorate(**options)(work)
    with pytest.raises(RuntimeError, match=r"only with @queue\.batch_task"):
        _ = BatchItem("id").value
