"""The life of a single task, as `handle.info()` tells it: every state, with the sentence that says why it waits."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import re
import socket
from typing import Any

import pytest

from taskfleet import (
    AttemptError,
    Retry,
    RetryLater,
    TaskCancelledError,
    TaskExecutionError,
    TaskHandle,
    TaskInfo,
    TaskNotFoundError,
    TaskQueue,
    TaskStateError,
    chain,
    chord,
    current_task,
    group,
)
from taskfleet.protocol import dead_record
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.white_box import RawWorker

HERE = f"{socket.gethostname()}:{os.getpid()}"


async def told(handle: TaskHandle[Any], state: str) -> TaskInfo:
    """The life of a task, once it is in this state."""

    async def reached() -> TaskInfo | None:
        info = await handle.info()
        return info if info.state == state else None

    found: TaskInfo = await until(reached, f"it is {state}")
    assert await handle.status() == state
    return found


async def test_a_ready_task_tells_what_it_is_and_that_no_worker_takes_it(queue: TaskQueue) -> None:
    @queue.task(max_retries=7)
    async def note(n: int, *, who: str) -> None: ...

    handle = await note.options(queue="mine").enqueue(3, who="me")
    info = await handle.info()
    assert (info.id, info.task, info.queue, info.state) == (handle.id, "note", "mine", "ready")
    assert (info.args, info.kwargs) == ((3,), {"who": "me"}) or (info.args, info.kwargs) == ((), {"n": 3, "who": "me"})
    assert (info.attempt, info.deliveries, info.max_retries) == (1, 0, 7)
    assert (info.enqueued_by, info.parent) == (HERE, None)
    assert info.enqueued_at is not None
    assert abs(info.enqueued_at.timestamp() * 1000 - await white_box.now_ms(queue)) < 20_000
    assert info.waiting == "no worker takes this queue"
    assert (info.errors, info.problem, info.worker, info.result) == ((), None, None, None)


async def test_a_handle_of_a_bare_id_tells_the_same(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await task.options(queue="one").enqueue()
    handle = await task.options(queue="two").enqueue()
    assert await queue.handle(handle.id).info() == await handle.info()
    with pytest.raises(TaskNotFoundError, match="task none is not known"):
        await queue.handle("none").info()


async def test_a_paused_queue_is_why_its_tasks_wait(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.pause("default")
    await run_worker(queue)
    ready, later = await task.enqueue(), await task.options(delay=6000).enqueue()
    assert (await ready.info()).waiting == "the queue is paused"
    assert (await later.info()).waiting == "for its time, in 100 min; the queue is paused"
    await queue.purge("default")
    await queue.resume("default")


async def test_the_place_in_line_counts_no_cancelled_task(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handles = await queue.enqueue_many([task.message() for _ in range(5)])
    await handles[1].cancel()
    found = await queue.broker.inspect("default", [each.id for each in handles], most_bytes=100, line=100)
    assert [record.ahead for record in found.records] == [0, -1, 1, 2, 3]
    found = await queue.broker.inspect("default", [handles[4].id], most_bytes=100, line=3)
    assert found.records[0].ahead == -1, "it is further behind than the places that are looked at"


async def test_a_task_behind_busy_slots_tells_it(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    worker = await run_worker(queue, concurrency=1)
    first = await hold.enqueue()
    info = await told(first, "running")
    assert info.worker == worker.identity.worker_id
    assert (info.waiting, info.attempt, info.deliveries) == (None, 1, 1)
    assert info.lease_expires_at is not None
    assert info.lease_expires_at > dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    second = await hold.enqueue()

    async def says() -> bool:
        return (await second.info()).waiting == "first in line, for a free slot: the only one is busy"

    await until(says, "it says that the only slot is busy")
    more = [await hold.enqueue() for _ in range(3)]
    await more[1].cancel()
    assert (await more[0].info()).waiting == "in line behind 1 other, for a free slot: the only one is busy"
    assert (await more[2].info()).waiting == "in line behind 2 others, for a free slot: the only one is busy"

    async def begun() -> bool:
        return (await first.info()).started_at is not None

    await until(begun, "a heartbeat has told when the run began")
    started = (await first.info()).started_at
    assert started is not None
    assert abs((started - dt.datetime.now(dt.UTC)).total_seconds()) < 30
    release.set()


async def test_a_delayed_task_tells_its_time(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.options(delay=42).enqueue()
    info = await handle.info()
    assert info.state == "delayed"
    told_in = re.fullmatch(r"for its time, in (\d+) s; no worker takes this queue", info.waiting or "")
    assert told_in is not None
    assert 30 <= int(told_in[1]) <= 42
    assert info.due_at is not None
    assert 30 < info.due_at.timestamp() - await white_box.now_ms(queue) / 1000 <= 43
    far = await task.options(delay=dt.timedelta(days=9)).enqueue()
    assert (await far.info()).waiting == "for its time, in 9 d; no worker takes this queue"
    await white_box.make_due(queue, handle.id)
    waiting = (await handle.info()).waiting
    assert waiting == "for its time, which has come: the next claim takes it; no worker takes this queue"


async def test_a_blocked_task_tells_which_task_it_waits_for(queue: TaskQueue) -> None:
    @queue.task
    async def add(*numbers: int) -> int:
        return sum(numbers)

    end = await queue.enqueue(chain(add.message(1), add.message(2), add.message(3)))
    info = await end.info()
    (middle,) = info.waits_for
    assert (info.state, info.waiting) == ("blocked", f"for task {middle}, which is blocked itself")
    info = await queue.handle(middle).info()
    (first,) = info.waits_for
    assert info.waiting == f"for task {first}, which is ready"
    _, claims = await RawWorker(queue, "w").step(1)
    assert list(claims) == [first]
    assert (await queue.handle(middle).info()).waiting == f"for task {first}, which is running"


async def test_a_task_after_several_names_some_of_them(queue: TaskQueue) -> None:
    @queue.task
    async def one(n: int) -> int:
        return n

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    end = await queue.enqueue(chord(group(*(one.message(n) for n in range(5))), total.message()))
    info = await end.info()
    assert len(info.waits_for) == 5
    assert info.waiting is not None
    assert info.waiting.startswith("for 5 tasks: ")
    assert info.waiting.endswith(" (ready) and 2 more")
    later = await one.options(after=[await one.options(queue="other").enqueue(1)]).enqueue(2)
    assert len((await later.info()).waits_for) == 1


async def test_a_task_that_is_retried_tells_its_errors(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=2, retry=Retry.fixed(600))
    async def fail(n: int) -> None:
        raise ValueError(f"no luck with {n}")

    worker = await run_worker(queue)
    handle = await fail.enqueue(7)
    info = await told(handle, "retrying")
    assert info.waiting == "for attempt 2 of 3, in 10 min"
    assert (info.attempt, info.deliveries, info.max_retries) == (2, 1, 2)
    (error,) = info.errors
    assert (error.attempt, error.reason, error.error) == (1, "exception", "ValueError: no luck with 7")
    assert error.worker == worker.identity.worker_id
    assert 'raise ValueError(f"no luck with {n}")' in error.traceback
    assert error.retry_at is not None
    assert 590 < (error.retry_at - error.at).total_seconds() <= 601
    assert (info.error, info.traceback, info.reason) == (None, None, None)


async def test_a_timeout_and_a_requested_retry_are_attempts_with_errors(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=3, retry=Retry.fixed(0), timeout=0.05)
    async def slow() -> int:
        match current_task().attempt:
            case 1:
                await asyncio.sleep(60)
            case 2:
                raise RetryLater(0)
            case 3:
                raise KeyError("k")
        await release.wait()
        return 1

    release = asyncio.Event()
    await run_worker(queue)
    handle = await slow.options(timeout=0.3).enqueue()

    async def third() -> bool:
        return len((await handle.info()).errors) >= 3  # the fourth has a timeout too

    await until(third, "three attempts have failed")
    errors = (await handle.info()).errors
    assert [error.reason for error in errors[:3]] == ["timeout", "exception", "exception"]
    assert errors[0].error == "it ran longer than its timeout of 0.3 s"
    assert errors[1].error.startswith("RetryLater")
    assert errors[1].traceback == "", "a retry that was asked for has no place where it failed"
    assert errors[2].error == "KeyError: 'k'"
    assert [error.attempt for error in errors[:3]] == [1, 2, 3]
    release.set()


async def test_a_failed_task_tells_all_its_errors_and_its_end(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fail(n: int) -> None:
        raise ValueError(f"attempt {current_task().attempt}")

    worker = await run_worker(queue)
    handle = await fail.options(limit_key="k", fair_key="f").enqueue(7)
    info = await told(handle, "failed")
    assert [(error.attempt, error.error) for error in info.errors] == [
        (1, "ValueError: attempt 1"), (2, "ValueError: attempt 2"),
    ]  # fmt: skip
    assert (info.error, info.reason, info.attempt, info.deliveries) == ("ValueError: attempt 2", "exception", 2, 2)
    assert "raise ValueError" in (info.traceback or "")
    assert info.errors[1].retry_at is None
    assert info.errors[1].at == info.ended_at
    assert {error.worker for error in info.errors} == {worker.identity.worker_id} == {info.worker}
    assert (info.task, info.waiting, info.limit_key, info.fair_key) == ("fail", None, "k", "f")
    assert 7 in (info.args or ()) or info.kwargs == {"n": 7}
    assert info.enqueued_at is not None


async def test_a_task_of_an_unknown_name_is_dead_and_tells_it(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    sender, worker = make_queue(), make_queue()

    @sender.task
    async def only_here() -> None: ...

    await run_worker(worker)
    handle = await only_here.enqueue()
    info = await told(handle, "dead")
    assert (info.task, info.reason) == ("only_here", "unknown_task")
    assert [error.reason for error in info.errors] == ["unknown_task"]


async def test_a_task_that_has_succeeded_tells_its_result_and_who_sent_it(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def when() -> dict[str, dt.date]:
        return {"day": dt.date(2026, 11, 26)}

    await run_worker(queue)
    handle = await when.enqueue()
    await handle.result(timeout=60)
    info = await handle.info()
    assert (info.state, info.enqueued_by) == ("succeeded", HERE)
    assert str(info.result["day"]) == "2026-11-26"
    assert (info.task, info.waiting, info.errors) == (None, None, ())


async def test_a_cancelled_and_an_expired_task_tell_why(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    await handle.cancel()
    info = await handle.info()
    assert (info.state, info.error, info.reason) == ("cancelled", "cancelled before it ran", "cancelled")
    late = await task.options(expires=0.001).enqueue()
    await asyncio.sleep(0.01)
    await run_worker(queue)
    info = await told(late, "expired")
    assert (info.reason, info.error) == ("expired", "it expired before it ran")


async def test_a_running_task_that_was_cancelled_waits_for_its_worker(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    worker = RawWorker(queue, "w", lease_ms=60_000)
    _, claims = await worker.step(1)
    assert (await handle.info()).waiting is None
    await handle.cancel()
    assert (await handle.info()).waiting == "for its worker to stop it, since it was cancelled"
    await white_box.end_lease(queue, handle.id)
    waiting = (await handle.info()).waiting or ""
    assert waiting.startswith("for another worker: the lease of its worker ended ")
    assert claims


async def test_a_parked_task_tells_its_limit_key(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 2}])

    @queue.task
    async def task() -> None: ...

    handles = [await task.options(limit_key="a").enqueue() for _ in range(3)]
    worker = RawWorker(queue, "w", lease_ms=60_000)
    worker.options = queue.application.options_of("default")
    await worker.step(5)
    info = await handles[2].info()
    assert (info.state, info.limit_key) == ("delayed", "a")
    assert info.waiting == "for limit key 'a': 2 of 2 run; no worker takes this queue"


async def test_a_task_at_the_rate_limit_of_its_key_tells_when_the_next_may_start(make_queue: MakeQueue) -> None:
    limit = {"tasks_per_second": 0.01, "burst": 1}
    queue = make_queue(queues=[{"name": "default", "rate_limit_per_key": limit}])

    @queue.task
    async def task() -> None: ...

    handles = [await task.options(limit_key="a\x1b").enqueue() for _ in range(2)]
    worker = RawWorker(queue, "w")
    worker.options = queue.application.options_of("default")
    await worker.step(5)
    waiting = (await handles[1].info()).waiting or ""
    assert waiting.startswith(r"for limit key 'a\x1b': its rate limit lets the next task start in ")


async def test_a_task_at_the_limits_of_its_queue_tells_them(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()
    queue = make_queue(
        queues=[
            {"name": "slow", "rate_limit": {"tasks_per_second": 0.01, "burst": 1}},
            {"name": "narrow", "concurrency": 1},
        ]
    )

    @queue.task
    async def hold() -> None:
        await release.wait()

    await run_worker(queue)
    for name, words in (
        ("slow", "for the rate limit of its queue: the next task may start in "),
        ("narrow", "for the concurrency of its queue: 1 of 1 run"),
    ):
        first, second = [await hold.options(queue=name).enqueue() for _ in range(2)]
        await told(first, "running")
        info = await second.info()
        assert (info.state, (info.waiting or "")[: len(words)]) == ("ready", words)
    release.set()
    await queue.purge("slow")


async def test_a_task_that_follows_another_of_its_unique_key_names_it(queue: TaskQueue) -> None:
    @queue.task(unique_mode="replace")
    async def task() -> None: ...

    first = await task.options(unique_key="u").enqueue()
    await RawWorker(queue, "w", lease_ms=60_000).step(1)
    second = await task.options(unique_key="u").enqueue()
    info = await second.info()
    assert (info.state, info.unique_key) == ("delayed", "u")
    assert info.waiting == f"for task {first.id}, which has its unique key 'u'; no worker takes this queue"


async def test_a_draining_worker_does_not_take_the_queue(queue: TaskQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    @queue.task
    async def hold() -> None:
        await release.wait()

    worker = await run_worker(queue)
    await told(await hold.enqueue(), "running")
    await queue.broker.cordon(worker.identity.name, ttl_seconds=60)
    handle = await hold.options(delay=60).enqueue()

    async def says() -> bool:
        waiting = (await handle.info()).waiting or ""
        return waiting.endswith("; every worker of this queue is draining or cordoned")

    await until(says, "the heartbeat tells that it is cordoned")
    release.set()


async def test_a_task_tells_which_task_sent_it(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def child() -> None: ...

    @queue.task
    async def parent() -> list[str]:
        many = await queue.enqueue_many([child.options(delay=60).message() for _ in range(2)])
        one = await child.options(delay=60).enqueue()
        end = await queue.enqueue(chain(child.options(delay=60).message(), child.message()))
        return [handle.id for handle in (*many, one, end)]

    @queue.task
    def plain_parent() -> str:
        return child.options(delay=60).enqueue_sync().id

    await run_worker(queue)
    for sender in (parent, plain_parent):
        handle = await sender.enqueue()
        sent = await handle.result(timeout=60)
        for task_id in sent if isinstance(sent, list) else [sent]:
            info = await queue.handle(task_id).info()
            assert (info.parent, info.enqueued_by) == (handle.id, HERE)
    assert (await (await child.enqueue()).info()).parent is None
    await queue.purge("default")


async def test_the_loss_of_a_worker_is_the_end_of_an_attempt(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> str:
        return "done"

    handle = await task.enqueue()
    lost = RawWorker(queue, "lost-one", max_deliveries=2)
    await lost.step(1)
    await white_box.end_lease(queue, handle.id)
    await RawWorker(queue, "w").step(0)
    (error,) = (await handle.info()).errors
    assert (error.attempt, error.reason, error.worker) == (1, "worker_lost", None)
    assert error.error == "its worker was lost while it ran"
    assert error.retry_at == error.at
    await lost.step(1)
    await white_box.end_lease(queue, handle.id)
    await RawWorker(queue, "w", max_deliveries=2).step(0)
    info = await handle.info()
    assert (info.state, info.reason) == ("dead", "max_deliveries")
    assert [each.reason for each in info.errors] == ["worker_lost", "worker_lost", "max_deliveries"]
    assert await queue.retry(handle.id)
    await run_worker(queue)
    assert await handle.result(timeout=60) == "done"


async def test_the_errors_of_a_task_are_few_and_small_and_end_with_it(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=14, retry=Retry.fixed(0))
    async def fail(padding: int) -> str:
        attempt = current_task().attempt
        if attempt < 15:
            raise ValueError(f"{attempt} " + "ä" * padding)
        await release.wait()
        return "at last"

    release = asyncio.Event()
    await run_worker(queue)
    for padding, most in ((0, 10), (5000, 2)):
        handle = await fail.enqueue(padding)

        async def fourteen(handle: TaskHandle[Any] = handle) -> bool:
            info = await handle.info()
            return info.state == "running" and info.attempt == 15

        await until(fourteen, "fourteen attempts have failed")
        errors = (await handle.info()).errors
        assert 1 <= len(errors) <= most
        assert [error.attempt for error in errors] == list(range(15 - len(errors), 15)), "the oldest were dropped"
        assert all(len(error.error) <= 500 and len(error.traceback) <= 2000 for error in errors)
        found = await queue.broker.inspect("default", [handle.id], most_bytes=0)
        assert len(found.records[0].errors) < 9000
    release.set()
    await handle.result(timeout=60)
    assert (await handle.info()).errors == ()


async def test_a_purged_and_a_cancelled_task_leave_no_errors(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handles = [await task.enqueue() for _ in range(2)]
    worker = RawWorker(queue, "w")
    _, claims = await worker.step(2)
    record = dead_record.pack_attempt("exception", "E: no", "", "w/0")
    await worker.step(0, [(each.id, 1, "r", 5, b"", 0, (60_000, record)) for each in handles])
    assert [len((await each.info()).errors) for each in handles] == [1, 1]
    await handles[0].cancel()
    await queue.purge("default")  # the orphans of a test are its failure
    assert len(claims) == 2


async def test_retry_requeues_a_dead_letter_and_keeps_its_errors(queue: TaskQueue, run_worker: RunWorker) -> None:
    luck: list[int] = []

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fail() -> str:
        if not luck:
            raise ValueError("no luck")
        if len(luck) == 1:
            luck.append(2)
            raise ValueError("not yet")
        await release.wait()
        return "done"

    release = asyncio.Event()
    await run_worker(queue)
    handle = await fail.enqueue()
    await told(handle, "failed")
    luck.append(1)
    assert await queue.retry(handle.id)

    async def again() -> bool:
        return len((await handle.info()).errors) == 3

    await until(again, "it has failed once more")
    info = await told(handle, "running")
    assert [(each.attempt, each.error) for each in info.errors] == [
        (1, "ValueError: no luck"), (2, "ValueError: no luck"), (1, "ValueError: not yet"),
    ]  # fmt: skip
    assert all(each.retry_at is not None for each in info.errors), "each was followed by another attempt"
    release.set()
    assert await handle.result(timeout=60) == "done"


async def test_retry_says_why_another_task_cannot_be_retried(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(max_retries=0)
    async def task(good: bool) -> int:
        if not good:
            raise ValueError
        return 1

    with pytest.raises(TaskNotFoundError, match="task none is not known"):
        await queue.retry("none")
    waiting = await task.options(delay=60).enqueue(good=True)
    assert await queue.retry(waiting.id) is False
    await run_worker(queue)
    done = await task.enqueue(good=True)
    await done.result(timeout=60)
    with pytest.raises(TaskStateError, match="send the task again"):
        await queue.retry(done.id)
    failed = await task.options(unique_key="u").enqueue(good=False)
    with pytest.raises(TaskExecutionError):
        await failed.result(timeout=60)
    other = await task.options(unique_key="u", delay=60).enqueue(good=True)
    with pytest.raises(TaskStateError, match="another task has its unique key"):
        await queue.retry(failed.id)
    await other.cancel()
    assert await queue.retry(failed.id)
    with pytest.raises(TaskCancelledError):
        await other.result(timeout=60)
    await told(failed, "failed")
    await queue.purge("default")


async def test_what_is_too_large_is_left_out_and_told(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task(text: str) -> str:
        return text

    handle = await task.enqueue("x" * 500_000)
    info = await handle.info()
    assert (info.task, info.args, info.kwargs) == ("task", None, None)
    assert info.problem is not None
    assert info.problem.endswith("bytes is too large to be shown")
    await run_worker(queue)
    await handle.result(timeout=60)
    info = await handle.info()
    assert (info.state, info.result) == ("succeeded", None)
    assert "its result of" in (info.problem or "")


async def test_a_large_dead_letter_tells_its_error_without_its_arguments(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=0)
    async def fail(text: str) -> None:
        raise ValueError("no luck")

    await run_worker(queue)
    info = await told(await fail.enqueue("x" * 500_000), "failed")
    assert (info.task, info.error, info.args, info.attempt) == ("fail", "ValueError: no luck", None, 1)
    assert "too large to be shown" in (info.problem or "")


async def test_encrypted_tasks_are_read_with_the_keys_and_told_without(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    pytest.importorskip("cryptography")
    queue, stranger = make_queue(encryption_keys=[b"k" * 32]), make_queue()

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fail(secret: str) -> None:
        raise ValueError(f"no luck with {secret}")

    waiting = await fail.options(delay=60).enqueue("hush")
    await run_worker(queue)
    failed = await fail.enqueue("hush")
    info = await told(failed, "failed")
    assert [each.error for each in info.errors] == ["ValueError: no luck with hush"] * 2
    assert "hush" in str((await waiting.info()).args) + str((await waiting.info()).kwargs)
    info = await stranger.handle(waiting.id).info()
    assert (info.state, info.args, info.kwargs) == ("delayed", None, None)
    assert "cannot be read" in (info.problem or "")
    info = await stranger.handle(failed.id).info()
    assert info.state == "failed"
    assert [each.reason for each in info.errors] == ["unreadable"] * 2
    assert "hush" not in repr(info)
    assert await waiting.cancel()
    info = await stranger.handle(waiting.id).info()
    assert "nor whether it was cancelled" in (info.problem or "")


@pytest.mark.parametrize("blob", [b"", b"\x00", b"12345678", b"12345678\xc1", b"\xff" * 40, b"\x7f\xf0" + b"\0" * 30])
async def test_damaged_payloads_are_told_and_break_nothing(queue: TaskQueue, blob: bytes) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    await white_box.overwrite(queue, handle.id, blob)
    if blob:
        info = await handle.info()
        assert (info.state, info.args) == ("ready", None)
        assert "cannot be read" in (info.problem or "")
        assert [each.id for each in (await queue.list_tasks("default")).items] == [handle.id]
    await queue.purge("default")


async def test_without_an_event_loop(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    info = await asyncio.to_thread(queue.handle(handle.id).info_sync)
    assert info.id == handle.id


def test_the_records_are_plain() -> None:
    error = AttemptError(1, dt.datetime.now(dt.UTC), None, "exception", "E", "", None)
    assert error == AttemptError(*(getattr(error, name) for name in AttemptError.__slots__))
