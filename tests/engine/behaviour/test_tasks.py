"""Tasks: typed arguments, results and errors."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import threading
import uuid
from dataclasses import dataclass

import pydantic
import pytest

from taskfleet import (
    InvalidQueueNameError,
    QueueOptions,
    SerializationError,
    Task,
    TaskExecutionError,
    TaskQueue,
    current_task,
)
from tests.engine.conftest import MakeQueue, RunWorker


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class Order(pydantic.BaseModel):
    id: uuid.UUID
    price: decimal.Decimal
    raw: bytes = b""


class ProcessData(Task):
    data: str

    async def execute(self) -> dict[str, str]:
        return {"data": self.data, "task": current_task().name}


class Renamed(Task):
    name = "something-else"
    count: int

    async def execute(self) -> int:
        return self.count + 1


async def test_a_task_runs_and_its_result_comes_back(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    assert await add(1) == 2  # a plain call runs the function here
    handle = await add.enqueue(2, b=3)
    assert await handle.status() == "ready"
    await run_worker(queue)
    assert await handle.result(timeout=60) == 5
    assert await handle.status() == "succeeded"
    assert await handle.result(timeout=60) == 5


async def test_values_arrive_as_the_annotated_types(queue: TaskQueue, run_worker: RunWorker) -> None:
    seen: list[object] = []

    @queue.task
    async def record(
        when: dt.datetime, key: uuid.UUID, price: decimal.Decimal, colour: Colour, point: Point, order: Order,
        raw: bytes, several: list[Point], maybe: int | None, span: dt.timedelta, *rest: int, **named: Colour,
    ) -> tuple[dt.date, Point]:  # fmt: skip
        seen[:] = [when, key, price, colour, point, order, raw, several, maybe, span, rest, named]
        return when.date(), point

    arguments = (
        dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC), uuid.uuid4(), decimal.Decimal("1.10"), Colour.RED, Point(1, 2.5),
        Order(id=uuid.uuid4(), price=decimal.Decimal("3.50"), raw=b"text"), b"\xff\x00", [Point(3, 4.0)], None,
        dt.timedelta(seconds=1.5), 7, 8,
    )  # fmt: skip
    await run_worker(queue)
    handle = await record.enqueue(*arguments, extra=Colour.RED)
    assert await handle.result(timeout=60) == (dt.date(2026, 1, 2), Point(1, 2.5))
    assert seen == [*arguments[:10], (7, 8), {"extra": Colour.RED}]


async def test_class_tasks_are_named_and_run(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue, queues=["high_priority", "default"])
    first = await queue.enqueue(ProcessData(data="x"), "high_priority")
    second = await queue.schedule(Renamed(count=1), "default", delay=dt.timedelta(milliseconds=50))
    assert await first.result(timeout=60) == {"data": "x", "task": "process_data"}
    assert await second.result(timeout=60) == 2
    assert Renamed.name == "something-else"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("x", 1), "parameter 'count'"),
        ((1,), "missing a required argument: 'thing'"),
        ((1, object()), "parameter 'thing': type object cannot be encoded"),
        ((1, 1, 1), "too many positional arguments"),
        ((2**70, 1), "parameter 'count'"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_and_named(
    queue: TaskQueue, arguments: tuple[object, ...], problem: str
) -> None:
    @queue.task
    async def task(count: int, thing: object) -> None: ...

    with pytest.raises(SerializationError, match=problem) as caught:
        await task.enqueue(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert (await queue.queue_stats("default")).ready == 0


async def test_a_bad_queue_name_is_refused(queue: TaskQueue) -> None:
    with pytest.raises(InvalidQueueNameError, match="'two words'"):

        @queue.task(queue="two words")
        async def task() -> None: ...

    @queue.task
    async def good() -> None: ...

    with pytest.raises(InvalidQueueNameError):
        good.options(queue="")
    for name in ("info", "sync:config", "a.b-c_d", "x" * 255):
        QueueOptions(name)


async def test_a_result_that_cannot_be_recorded_is_an_error_on_the_task(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(max_result_bytes=100)

    @queue.task
    async def large() -> str:
        return "x" * 200

    @queue.task
    async def wrong() -> int:
        return "not a number"  # type: ignore[return-value]

    @queue.task
    async def odd():  # type: ignore[no-untyped-def]
        return object()

    await run_worker(queue)
    for task, problem in ((large, "max_result_bytes=100"), (wrong, "result"), (odd, "cannot be encoded")):
        with pytest.raises(TaskExecutionError, match=problem):
            await (await task.enqueue()).result(timeout=60)  # type: ignore[attr-defined]


async def test_plain_functions_run_in_threads(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    def where() -> tuple[str, str]:
        return threading.current_thread().name, current_task().name

    await run_worker(queue)
    thread, name = await (await where.enqueue()).result(timeout=60)
    assert thread.startswith("taskfleet-task")
    assert name == "where"


async def test_the_context_knows_the_attempt(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(timeout=30)
    async def about() -> tuple[str, int, bool, bool]:
        context = current_task()
        assert context.deadline is not None
        left = context.deadline - dt.datetime.now(dt.UTC)
        age = dt.datetime.now(dt.UTC) - context.enqueued_at
        return context.id, context.attempt, 29 < left.total_seconds() <= 30.1, -0.1 < age.total_seconds() < 5

    await run_worker(queue)
    handle = await about.enqueue()
    assert await handle.result(timeout=60) == (handle.id, 1, True, True)
    with pytest.raises(RuntimeError, match="inside a task"):
        current_task()
