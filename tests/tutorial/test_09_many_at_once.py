"""9. Many at once: one call that sends thousands of tasks, and one run that takes many tasks."""

from __future__ import annotations

import pytest

from taskfleet import BatchItem, BulkEnqueueError, TaskExecutionError, TaskQueue


async def test_one_call_sends_many_tasks(queue: TaskQueue) -> None:
    @queue.task
    async def square(n: int) -> int:
        return n * n

    # A message is a call that is not sent yet. `options` come before it: square.options(delay=60).message(3)
    handles = await queue.enqueue_many([square.message(n) for n in range(1000)])
    await queue.start_workers(1)
    assert sum([await handle.result(timeout=60) for handle in handles]) == sum(n * n for n in range(1000))

    # Either all messages are good, or none is sent; the error says which ones are wrong.
    wrong = [square.message(1), square.message("two")]  # type: ignore[arg-type]
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many(wrong)
    assert [index for index, _ in caught.value.errors] == [1]


async def test_one_run_takes_many_tasks(queue: TaskQueue) -> None:
    sizes: list[int] = []

    # A run starts with 100 items, or with those that have come 50 ms after the first.
    @queue.batch_task(size=100, window_ms=50, max_retries=0)
    async def insert(items: list[BatchItem]) -> list[str | Exception]:
        sizes.append(len(items))
        return [item.args[0].upper() if item.args[0] else ValueError("a row needs a name") for item in items]

    handles = await queue.enqueue_many([insert.message(f"row {n}") for n in range(150)])
    nameless = await insert.enqueue("")
    await queue.start_workers(1)
    assert await handles[149].result(timeout=60) == "ROW 149"

    # Each item is a task of its own: this one fails alone.
    with pytest.raises(TaskExecutionError, match="a row needs a name"):
        await nameless.result(timeout=60)
    assert sum(sizes) == 151
    assert max(sizes) <= 100
