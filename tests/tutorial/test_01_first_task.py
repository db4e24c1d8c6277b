"""1. A first task: define it, call it, let a worker run it, read its result."""

from __future__ import annotations

import pytest

from taskfleet import TaskExecutionError, TaskQueue


async def test_a_first_task(queue: TaskQueue) -> None:
    # A task is a function that a queue knows by its name.
    @queue.task(max_retries=0)
    async def divide(a: int, b: int) -> float:
        return a / b

    # A plain call is a plain call: the function runs here, without Redis.
    assert await divide(6, 3) == 2.0

    # `enqueue` takes the arguments of the function, and type checkers know it. The call stores the task in Redis and
    # returns a handle.
    handle = await divide.enqueue(6, b=3)
    assert await handle.status() == "ready"

    # A worker claims the task and runs it. In production this line is the command `taskfleet worker APP`.
    await queue.start_workers(1)
    assert await handle.result(timeout=60) == 2.0
    assert await handle.status() == "succeeded"

    # A task that raises has no result; the error of the task is the cause.
    broken = await divide.enqueue(1, 0)
    with pytest.raises(TaskExecutionError, match="ZeroDivisionError"):
        await broken.result(timeout=60)
    assert await broken.status() == "failed"
