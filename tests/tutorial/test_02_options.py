"""2. Options: those of a task, those of one call, and tasks that are classes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest

from taskfleet import ResultTimeoutError, SerializationError, Task, TaskQueue, current_task, queue_names


@dataclass
class Order:
    id: int
    placed: dt.date


async def test_arguments_arrive_as_their_annotations_say(queue: TaskQueue) -> None:
    @queue.task
    async def delivery_date(order: Order, days: int = 2) -> dt.date:
        return order.placed + dt.timedelta(days)

    await queue.start_workers(1)
    handle = await delivery_date.enqueue(Order(7, dt.date(2026, 5, 1)))
    assert await handle.result(timeout=60) == dt.date(2026, 5, 3)

    # A wrong argument is an error of the call, not of a worker an hour later.
    with pytest.raises(SerializationError, match="order"):
        await delivery_date.enqueue("order 7")  # type: ignore[arg-type]


async def test_options_of_a_task_hold_for_every_call_unless_the_call_says_otherwise(queue: TaskQueue) -> None:
    @queue.task(name="mail.send", queue=queue_names.LOW_PRIORITY, timeout=30)
    async def send() -> str:
        return current_task().queue

    await queue.start_workers(1, queues=["low_priority", "high_priority"])
    usual = await send.enqueue()
    urgent = await send.options(queue=queue_names.HIGH_PRIORITY, timeout=5).enqueue()
    assert await usual.result(timeout=60) == "low_priority"
    assert await urgent.result(timeout=60) == "high_priority"


async def test_a_task_that_expires_before_it_runs_never_runs(queue: TaskQueue) -> None:
    @queue.task
    async def greet() -> str:
        return "good morning"

    handle = await greet.options(expires=0.01).enqueue()
    with pytest.raises(ResultTimeoutError):  # the caller stops waiting; that does not touch the task
        await handle.result(timeout=0.05)
    await queue.start_workers(1)
    await (await greet.enqueue()).result(timeout=60)
    assert await handle.status() == "expired"


class Resize(Task[str]):
    """A task can be a pydantic model: its fields are the arguments, `execute` is the function."""

    timeout_seconds = 60
    path: str
    width: int = 100

    async def execute(self) -> str:
        return f"{self.path} at {self.width}"


async def test_a_class_task(queue: TaskQueue) -> None:
    await queue.start_workers(1)
    handle = await queue.enqueue(Resize(path="cat.jpg"), queue_names.DEFAULT)
    assert await handle.result(timeout=60) == "cat.jpg at 100"
