"""Two applications on one Redis, each with its own queue and task."""

from __future__ import annotations

from taskfleet import TaskQueue

a = TaskQueue.from_config()
b = TaskQueue.from_config()


@a.task(queue="a", name="of_a")
async def of_a(n: int) -> int:
    return n


@b.task(queue="b", name="of_b")
async def of_b(n: int) -> int:
    return n
