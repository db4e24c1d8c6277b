"""Calls of tasks: arguments, results, schedules. Both type checkers must find the marked errors, and no other."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet import TaskHandle, TaskQueue

queue = TaskQueue()


@queue.task
async def add(a: int, b: int = 1) -> str:
    return str(a + b)


@queue.task(max_retries=1)
def plain(a: int) -> bytes:
    return bytes(a)


async def calls() -> None:
    handle: TaskHandle[str] = await add.enqueue(1, b=2)
    text: str = await handle.result()
    data: bytes = plain(1)
    other: TaskHandle[bytes] = await plain.options(delay=1).enqueue(1)
    await queue.enqueue_many([add.message(1), add.message(2)])
    bulk: Sequence[TaskHandle[str]] = await add.enqueue_many([(1,), (2, 3)])
    from_iterable: TaskHandle[bytes] = plain.options(delay=1).enqueue_many_sync((n,) for n in range(3))[0]
    wrong_bulk: Sequence[TaskHandle[int]] = await add.enqueue_many([(1,)])  # error: assignment
    await add.enqueue_many([1, 2])  # error: list-item
    add.enqueue_many_sync("ab")  # error: arg-type
    blocking: str = add.enqueue_sync(1, b=2).result_sync(timeout=1)
    other_blocking: TaskHandle[bytes] = plain.options(delay=1).enqueue_sync(1)
    add.enqueue_sync("x")  # error: arg-type
    plain.enqueue_sync()  # error: call-arg
    wrong_blocking: int = queue.enqueue_sync(add.message(1)).result_sync()  # error: assignment
    await add.enqueue("x")  # error: arg-type
    await add.enqueue(1, c=2)  # error: call-arg
    await plain.options(delay=1).enqueue()  # error: call-arg
    plain.options(dealy=1)  # error: call-arg
    wrong: int = await handle.result()  # error: assignment
    await queue.add_schedule(name="a", schedule="@daily", task=add, args=[1])
    await queue.add_schedule(name="b", every=60, task=plain, kwargs={"a": 1}, concurrency_policy="Forbid")
    await queue.add_schedule(name="c", schedule="@daily", task="add", concurrency_policy="forbid")  # error: arg-type
    await queue.add_schedule(name="d", schedule="@daily", task=5)  # error: arg-type
