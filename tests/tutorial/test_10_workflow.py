"""10. Workflows: tasks that wait for other tasks, and take their results."""

from __future__ import annotations

import pytest

from taskfleet import TaskCancelledError, TaskQueue, chain, chord, group


async def test_chain_group_and_chord(queue: TaskQueue) -> None:
    @queue.task
    async def load(shop: str) -> list[int]:
        return [len(shop), 10]

    @queue.task
    async def total(sales: list[int], tax: int = 0) -> int:
        return sum(sales) + tax

    @queue.task
    async def report(totals: list[int]) -> str:
        return f"{len(totals)} shops, {sum(totals)} in all"

    await queue.start_workers(1)

    # A chain runs one after the other: `partial` is a call whose first argument is the result of the task before.
    handle = await queue.enqueue(chain(load.message("rome"), total.partial(tax=1)))
    assert await handle.result(timeout=60) == 15

    # A group runs side by side; its handle has a tuple of all results, in order.
    both = await queue.enqueue(group(load.message("rome"), load.message("paris")))
    rome, paris = await both.result(timeout=60)
    assert (rome, paris) == ([4, 10], [5, 10])

    # A chord is a group with a task behind it, which takes the list of results. Members can be workflows themselves.
    shops = [chain(load.message(name), total.partial()) for name in ("rome", "paris", "oslo")]
    end = await queue.enqueue(chord(shops, report.partial()))
    assert await end.result(timeout=60) == "3 shops, 43 in all"


async def test_any_graph(queue: TaskQueue) -> None:
    order: list[str] = []

    @queue.task
    async def step(name: str) -> None:
        order.append(name)

    # `after` waits for tasks that were sent before, and passes nothing on.
    build = await step.enqueue("build")
    test = await step.options(after=[build]).enqueue("test")
    lint = await step.options(after=[build]).enqueue("lint")
    ship = await step.options(after=[test, lint]).enqueue("ship")
    assert await ship.status() == "blocked"

    await queue.start_workers(1)
    await ship.result(timeout=60)
    assert (order[0], set(order[1:3]), order[3]) == ("build", {"test", "lint"}, "ship")


async def test_behind_a_failure_nothing_runs(queue: TaskQueue) -> None:
    @queue.task(max_retries=0)
    async def download() -> bytes:
        raise ConnectionError("no route to host")

    @queue.task
    async def unpack(archive: bytes) -> int:
        return len(archive)

    handle = await queue.enqueue(chain(download.message(), unpack.partial()))
    await queue.start_workers(1)
    with pytest.raises(TaskCancelledError, match="no route to host"):  # the error names the cause
        await handle.result(timeout=60)
