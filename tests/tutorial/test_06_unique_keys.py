"""6. Unique keys: of the tasks of one key, one waits or runs."""

from __future__ import annotations

from taskfleet import TaskQueue


async def test_a_second_call_joins_the_first(queue: TaskQueue) -> None:
    runs: list[int] = []

    @queue.task(unique_key=lambda user: f"import:{user}")
    async def import_contacts(user: int) -> int:
        runs.append(user)
        return user

    first = await import_contacts.enqueue(7)
    second = await import_contacts.enqueue(7)
    other = await import_contacts.enqueue(8)
    assert second.id == first.id != other.id  # both callers have a handle on one task

    await queue.start_workers(1)
    assert await second.result(timeout=60) == 7
    assert await other.result(timeout=60) == 8
    assert sorted(runs) == [7, 8]

    # The key is free again when its task has ended.
    third = await import_contacts.enqueue(7)
    assert third.id != first.id
    assert await third.result(timeout=60) == 7


async def test_debounce_runs_once_after_the_last_call(queue: TaskQueue) -> None:
    @queue.task(unique_key="index", unique_mode="debounce", delay=0.1)
    async def index(pages: int) -> int:
        return pages

    handles = [await index.enqueue(pages) for pages in (1, 2, 3)]
    await queue.start_workers(1)
    assert await handles[-1].result(timeout=60) == 3
    assert [await handle.status() for handle in handles] == ["cancelled", "cancelled", "succeeded"]
