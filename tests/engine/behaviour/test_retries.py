"""Failures, retries and dead letters."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from taskfleet import Retry, RetryLater, TaskExecutionError, TaskQueue, TaskTimeoutError, current_task
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box


async def test_a_failing_task_retries_on_its_own_queue_and_then_is_a_dead_letter(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    attempts: list[tuple[int, str]] = []

    @queue.task(queue="mail", max_retries=2, retry=Retry.fixed(0.01))
    async def boom() -> None:
        attempts.append((current_task().attempt, current_task().queue))
        raise ValueError("no\nluck")

    handle = await boom.enqueue()
    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="ValueError: no") as caught:
        await handle.result(timeout=60)
    assert "raise ValueError" in caught.value.traceback
    assert attempts == [(1, "mail"), (2, "mail"), (3, "mail")]
    assert await handle.status() == "failed"
    (letter,) = await queue.dead_letters("mail")
    assert (letter.id, letter.task, letter.state, letter.reason, letter.attempts) == (
        handle.id, "boom", "failed", "exception", 3,
    )  # fmt: skip
    assert letter.enqueued_at is not None
    assert letter.enqueued_at <= letter.died_at
    assert await queue.requeue_dead("mail") == 1
    await until(lambda: len(attempts) == 6, "it ran again with all its attempts")


async def test_which_exceptions_retry_can_be_said(queue: TaskQueue, run_worker: RunWorker) -> None:
    counts = {"never": 0, "always": 0, "later": 0}

    @queue.task(max_retries=5, retry=Retry.fixed(0), never_retry=(KeyError,))
    async def never() -> None:
        counts["never"] += 1
        raise KeyError("x")

    @queue.task(max_retries=0, retry=Retry.fixed(0), always_retry=(ConnectionError,))
    async def always() -> int:
        counts["always"] += 1
        if counts["always"] < 4:
            raise ConnectionError
        return counts["always"]

    @queue.task(max_retries=1)
    async def later() -> float:
        counts["later"] += 1
        if counts["later"] == 1:
            raise RetryLater(0.2)
        return time.time()

    await run_worker(queue)
    began = time.time()
    last = await later.enqueue()
    with pytest.raises(TaskExecutionError):
        await (await never.enqueue()).result(timeout=60)
    assert await (await always.enqueue()).result(timeout=60) == 4
    assert await last.result(timeout=60) - began >= 0.2
    assert counts["never"] == 1


async def test_a_call_can_set_its_own_retries_and_timeout(queue: TaskQueue, run_worker: RunWorker) -> None:
    attempts = 0

    @queue.task(max_retries=5, retry=Retry.fixed(0))
    async def slow() -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(30)

    await run_worker(queue)
    handle = await slow.options(timeout=0.1, max_retries=1).enqueue()
    with pytest.raises(TaskTimeoutError, match=r"timeout of 0.1 s"):
        await handle.result(timeout=60)
    assert attempts == 2


async def test_a_timeout_stops_the_task_and_frees_its_slot(queue: TaskQueue, run_worker: RunWorker) -> None:
    stopped = asyncio.Event()

    @queue.task(timeout=0.1, max_retries=0)
    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    @queue.task
    async def quick() -> int:
        return 1

    await run_worker(queue, concurrency=1)
    handle = await endless.enqueue()
    after = await quick.enqueue()
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=60)
    assert stopped.is_set()
    assert await after.result(timeout=60) == 1


async def test_a_timeout_stops_a_thread(queue: TaskQueue, run_worker: RunWorker) -> None:
    ended = threading.Event()

    running = threading.Event()

    @queue.task(timeout=600, max_retries=0)
    def spin() -> None:
        try:
            running.set()
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    @queue.task
    def quick() -> int:
        return 1

    worker = await run_worker(queue, concurrency=1)
    handle = await spin.enqueue()
    after = await quick.enqueue()
    await until(running.is_set, "it runs")
    worker.deadlines.move(601)  # a shorter timeout may end before a busy machine has started the thread
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=30)
    assert ended.is_set()
    assert await after.result(timeout=60) == 1


async def test_a_task_that_exits_does_not_end_the_worker(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def leave() -> None:
        raise SystemExit(3)

    @queue.task
    async def quick() -> int:
        return 1

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="SystemExit: 3"):
        await (await leave.enqueue()).result(timeout=60)
    assert await (await quick.enqueue()).result(timeout=60) == 1


async def test_a_task_that_cannot_run_becomes_a_dead_letter_with_the_reason_and_stops_nothing(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def good() -> int:
        return 1

    items = [
        ("bad1", b"\xc1 not messagepack", 0, 0, None),
        ("bad2", b"\x01", 0, 0, None),
        ("bad3", b"\x94\x02\xa4good\x90\x80", 0, 0, None),  # envelope version 2 without a valid seal
        ("bad4", b"\x94\x01\xa6nobody\x90\x80", 0, 0, None),
        ("bad5", b"\x94\x01\xa4good\x91\x01\x80", 0, 0, None),  # one argument too many
    ]
    await queue.broker.enqueue("default", items)
    await white_box.overwrite(queue, "bad2", b"x")
    handle = await good.enqueue()
    await run_worker(queue)
    assert await handle.result(timeout=60) == 1
    letters = {letter.id: letter for letter in await queue.dead_letters("default")}
    assert {task_id: letter.reason for task_id, letter in letters.items()} == {
        "bad1": "undecodable", "bad2": "undecodable", "bad3": "undecodable", "bad4": "unknown_task",
        "bad5": "bad_arguments",
    }  # fmt: skip
    assert {letter.state for letter in letters.values()} == {"dead"}
    assert "version 2" in letters["bad3"].error
    assert "'nobody'" in letters["bad4"].error
    assert await queue.handle("bad4").status() == "dead"
    assert await queue.purge_dead("default") == 5


async def test_dead_letters_are_trimmed_by_count(make_queue, run_worker: RunWorker) -> None:  # type: ignore[no-untyped-def]
    queue = make_queue(queues=[{"name": "default", "dead_letter": {"max_length": 5}}])

    @queue.task(max_retries=0)
    async def boom() -> None:
        raise ValueError

    await queue.enqueue_many([boom.message() for _ in range(20)])
    await run_worker(queue)

    async def finished() -> bool:
        return (await queue.queue_stats("default")).finished_total == 20

    await until(finished, "all have ended")
    assert (await queue.queue_stats("default")).dead == 5
    assert len(await queue.dead_letters("default")) == 5


async def test_a_thousand_tasks_that_fail_at_once_do_not_retry_at_once(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(slots=1000)

    # Long delays, and due times in place of run times, because a busy machine would distort the spread.
    @queue.task(max_retries=1, retry=Retry.exponential(600.0))
    async def fails() -> None:
        raise ConnectionError("the service is down")

    await run_worker(queue)
    await queue.enqueue_many([fails.message() for _ in range(1000)])

    async def waiting() -> bool:
        return (await queue.queue_stats("default")).delayed > 950

    await until(waiting, "all but those whose time has come wait for it")
    times = await white_box.due_times(queue)
    # Full jitter over ten minutes: each tenth of them has about a hundred tasks (standard deviation 10).
    tenths = Counter(int((at - min(times)) / 60) for at in times)
    assert max(tenths.values()) < 200
    assert len(tenths) >= 9


async def test_all_dead_letters_go_back_once_though_they_die_again_at_once(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=0)
    async def poison() -> None:
        raise ValueError

    await queue.enqueue_many([poison.message() for _ in range(1200)])
    await run_worker(queue)

    async def dead() -> int:
        return (await queue.queue_stats("default")).dead

    async def all_dead() -> bool:
        return await dead() == 1200

    await until(all_dead, "all are dead")
    assert await queue.requeue_dead("default") == 1200
    await until(all_dead, "all are dead again")
    assert (await queue.queue_stats("default")).failed_total == 2400
