"""3. Failures: a task is tried again as its policy says, and becomes a dead letter when its attempts are used up."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import Retry, RetryLater, TaskExecutionError, TaskQueue, current_task


async def test_a_task_is_tried_again(queue: TaskQueue) -> None:
    # The first attempt and three retries; 0.01, 0.02 and 0.04 s between them.
    @queue.task(max_retries=3, retry=Retry.exponential(0.01, jitter=False))
    async def fetch() -> int:
        if current_task().attempt < 3:
            raise ConnectionError("the server is down")
        return current_task().attempt

    await queue.start_workers(1)
    assert await (await fetch.enqueue()).result(timeout=60) == 3


async def test_some_errors_are_worth_a_retry_and_some_are_not(queue: TaskQueue) -> None:
    @queue.task(max_retries=5, retry=Retry.fixed(0.01), never_retry=(ValueError,))
    async def parse(text: str) -> int:
        if not text and current_task().attempt == 1:
            raise RetryLater(0.01)  # the task itself knows when to come back
        return int(text or "0")

    await queue.start_workers(1)
    assert await (await parse.enqueue("")).result(timeout=60) == 0
    wrong = await parse.enqueue("eleven")
    with pytest.raises(TaskExecutionError, match="invalid literal"):
        await wrong.result(timeout=60)
    (letter,) = await queue.dead_letters("default")
    assert letter.attempts == 1


async def test_a_dead_letter_keeps_the_reason_and_can_be_sent_again(queue: TaskQueue) -> None:
    disk_is_full = True

    @queue.task(max_retries=1, retry=Retry.fixed(0.01))
    async def store(name: str) -> str:
        if disk_is_full:
            raise OSError("the disk is full")
        return name

    await queue.start_workers(1)
    handle = await store.enqueue("report")
    with pytest.raises(TaskExecutionError):
        await handle.result(timeout=60)

    (letter,) = await queue.dead_letters("default")
    assert (letter.task, letter.reason, letter.attempts) == ("store", "exception", 2)
    assert letter.error == "OSError: the disk is full"

    disk_is_full = False
    assert await queue.requeue_dead("default", [letter.id]) == 1
    assert await handle.result(timeout=60) == "report"


async def test_a_timeout_stops_a_run_and_counts_as_a_failure(queue: TaskQueue) -> None:
    @queue.task(timeout=0.1, max_retries=0)
    async def hang() -> None:
        await asyncio.Event().wait()

    await queue.start_workers(1)
    with pytest.raises(TaskExecutionError, match=r"0\.1 s"):
        await (await hang.enqueue()).result(timeout=60)
    (letter,) = await queue.dead_letters("default")
    assert letter.reason == "timeout"
