from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from taskfleet import (
    CallNext,
    ConfigurationError,
    Message,
    Middleware,
    Retry,
    SendNext,
    SerializationError,
    TaskContext,
    TaskExecutionError,
    TaskQueue,
    TaskQueueError,
    WorkerContext,
    chain,
    current_task,
    group,
)
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, RunWorker, until


class Recorder(Middleware):
    """Middleware that records every hook under its own name."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        self.log.append(f"{self.name} sends {len(messages)}")
        handles = await call_next()
        self.log.append(f"{self.name} sent {len(handles)}")

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        self.log.append(f"{self.name} before")
        try:
            return await call_next()
        finally:
            self.log.append(f"{self.name} after")

    async def startup(self, worker: WorkerContext) -> None:
        self.log.append(f"{self.name} starts with {worker.concurrency} slots on {','.join(worker.queues)}")

    async def shutdown(self, worker: WorkerContext) -> None:
        self.log.append(f"{self.name} ends")


async def test_the_first_is_outermost_everywhere(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    log: list[str] = []
    queue = make_queue(middleware=[Recorder("outer", log)])
    queue.add_middleware(Recorder("inner", log))

    @queue.task
    async def task() -> int:
        log.append("task")
        return 7

    handle = await task.enqueue()
    assert log == ["outer sends 1", "inner sends 1", "inner sent 1", "outer sent 1"]
    log.clear()
    worker = await run_worker(queue, concurrency=3)
    assert await handle.result(timeout=60) == 7
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    assert log == [
        "outer starts with 3 slots on default", "inner starts with 3 slots on default",
        "outer before", "inner before", "task", "inner after", "outer after",
        "inner ends", "outer ends",
    ]  # fmt: skip


async def test_headers_travel_to_the_worker_and_with_every_retry(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    class Trace(Middleware):
        async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
            for number, message in enumerate(messages):
                message.headers["trace"] = f"{message.task.name}-{number}"
            await call_next()

    queue = make_queue(middleware=[Trace()])
    seen: list[tuple[int, dict[str, str]]] = []

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task(n: int) -> dict[str, str]:
        seen.append((current_task().attempt, dict(current_task().headers)))
        if current_task().attempt == 1:
            raise ValueError
        return dict(current_task().headers)

    await run_worker(queue)
    message = task.message(1)
    handles = await queue.enqueue_many([message, message])
    assert [await handle.result(timeout=60) for handle in handles] == [{"trace": "task-0"}, {"trace": "task-1"}]
    assert sorted(attempt for attempt, _ in seen) == [1, 1, 2, 2]
    assert message.headers == {}  # the caller's own message is unchanged


async def test_the_members_of_a_workflow_have_headers_too(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    sizes: list[int] = []

    class Numbering(Middleware):
        async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
            for number, message in enumerate(messages):
                message.headers["n"] = str(number)
            sizes.append(len(await call_next()))

    queue = make_queue(middleware=[Numbering()])

    @queue.task
    async def first() -> list[str]:
        return [current_task().headers["n"]]

    @queue.task
    async def then(before: Any) -> list[Any]:
        return [*before, current_task().headers["n"]]

    await run_worker(queue)
    end = await queue.enqueue(chain(first.message(), then.message(), then.message()))
    assert await end.result(timeout=60) == ["0", "1", "2"]
    together = await queue.enqueue(group(first.message(), first.message()))
    assert await together.result(timeout=60) == [["0"], ["1"]]
    after = await first.options(after=[end]).enqueue()
    assert await after.result(timeout=60) == ["0"]
    assert sizes == [1, 2, 1]


async def test_without_middleware_a_task_has_no_headers(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> int:
        return len(current_task().headers)

    await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=60) == 0


async def test_headers_that_are_not_text_are_refused(make_queue: MakeQueue) -> None:
    class Wrong(Middleware):
        async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
            messages[0].headers["n"] = 1  # type: ignore[assignment]
            await call_next()

    queue = make_queue(middleware=[Wrong()])

    @queue.task
    async def task() -> None: ...

    with pytest.raises(SerializationError, match="header 'n': 1 is no text"):
        await task.enqueue()
    assert (await queue.queue_stats("default")).ready == 0


class Failing(Middleware):
    """Middleware that raises in a given hook."""

    def __init__(self, *where: str) -> None:
        self.where = where

    def fail(self, where: str) -> None:
        if where in self.where:
            raise RuntimeError(where)

    async def enqueue(self, messages: Sequence[Message[Any]], call_next: SendNext) -> None:
        self.fail("before sending")
        if "no sending" in self.where:
            return
        await call_next()
        if "twice" in self.where:
            await call_next()
        self.fail("after sending")

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        self.fail("before running")
        value = await call_next()
        self.fail("after running")
        return value

    async def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
        self.fail("retry")

    async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
        self.fail("dead")

    async def startup(self, worker: WorkerContext) -> None:
        self.fail("startup")

    async def shutdown(self, worker: WorkerContext) -> None:
        self.fail("shutdown")


@pytest.mark.parametrize(
    ("where", "problem"),
    [("before sending", "before sending"), ("no sending", r"Failing: its enqueue hook returned without call_next\(\)")],
)
async def test_a_message_that_a_hook_refuses_is_not_sent(make_queue: MakeQueue, where: str, problem: str) -> None:
    queue = make_queue(middleware=[Failing(where)])

    @queue.task
    async def task() -> None: ...

    with pytest.raises((RuntimeError, TaskQueueError), match=problem):
        await task.enqueue()
    with pytest.raises((RuntimeError, TaskQueueError), match=problem):
        await queue.enqueue_many([task.message()])
    assert (await queue.queue_stats("default")).ready == 0


@pytest.mark.parametrize("where", ["after sending", "twice"])
async def test_a_hook_that_fails_after_sending_does_not_make_the_caller_send_again(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    queue = make_queue(middleware=[Failing(where)])

    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    assert await handle.status() == "ready"
    assert (await queue.queue_stats("default")).ready == 1
    assert "failed after its tasks had been sent" in caplog.text


@pytest.mark.parametrize("where", ["before running", "after running"])
async def test_a_hook_that_fails_around_a_run_fails_the_run(
    make_queue: MakeQueue, run_worker: RunWorker, where: str
) -> None:
    queue = make_queue(middleware=[Failing(where)])
    runs = 0

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task() -> None:
        nonlocal runs
        runs += 1

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match=f"RuntimeError: {where}"):
        await (await task.enqueue()).result(timeout=60)
    assert runs == (2 if where == "after running" else 0)
    (letter,) = await queue.dead_letters("default")
    assert letter.attempts == 2


async def test_hooks_that_are_told_and_fail_change_nothing(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(middleware=[Failing("retry", "dead", "shutdown")])

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task() -> None:
        raise ValueError("why")

    worker = await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="ValueError: why"):
        await (await task.enqueue()).result(timeout=60)
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    for hook in ("on_retry", "on_dead", "shutdown"):
        assert f"Failing.{hook} failed" in caplog.text


async def test_a_worker_whose_startup_fails_claims_nothing_and_shuts_down_started_middleware(
    make_queue: MakeQueue,
) -> None:
    log: list[str] = []
    queue = make_queue(middleware=[Recorder("first", log), Failing("startup"), Recorder("third", log)])

    @queue.task
    async def task() -> None: ...

    await task.enqueue()
    log.clear()
    with pytest.raises(RuntimeError, match="startup"):
        await Worker(queue).run()
    assert log == ["first starts with 8 slots on default", "first ends"]
    assert (await queue.queue_stats("default")).ready == 1


async def test_retries_and_deaths_are_told_with_their_reason(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    told: list[tuple[str, ...]] = []

    class Telling(Middleware):
        async def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
            told.append(("retry", task.name, str(task.attempt), reason, error, f"{delay:g}"))

        async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
            told.append(("dead", task.name, str(task.attempt), reason, error))

    queue = make_queue(middleware=[Telling()])

    @queue.task(max_retries=1, retry=Retry.fixed(0.01))
    async def fails() -> None:
        raise ValueError("why")

    @queue.task(max_retries=0, timeout=0.05)
    async def hangs() -> None:
        await asyncio.sleep(60)

    @queue.task
    async def gone() -> None: ...

    elsewhere = await gone.enqueue()
    await queue.broker.enqueue("default", [("garbage-id", b"\xc1", 0, 0, None)])
    queue.registry._definitions.pop("gone")
    handles = [await fails.enqueue(), await hangs.enqueue(), elsewhere]
    await run_worker(queue)
    for handle in handles:
        with pytest.raises(TaskQueueError):
            await handle.result(timeout=60)
    await until(lambda: len(told) == 5, "all have been told")
    assert {entry[:4] for entry in told} == {
        ("retry", "fails", "1", "exception"), ("dead", "fails", "2", "exception"), ("dead", "hangs", "1", "timeout"),
        ("dead", "gone", "1", "unknown_task"), ("dead", "?", "1", "undecodable"),
    }  # fmt: skip
    assert ("retry", "fails", "1", "exception", "ValueError: why", "0.01") in told


async def test_a_hook_that_hangs_holds_no_slot_and_no_outcome(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    release = asyncio.Event()

    class Slow(Middleware):
        async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
            await release.wait()

    queue = make_queue(middleware=[Slow()])

    @queue.task(max_retries=0)
    async def fails() -> None:
        raise ValueError

    await run_worker(queue, concurrency=1)
    for handle in await queue.enqueue_many([fails.message() for _ in range(3)]):
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=60)
    release.set()


async def test_a_hook_may_answer_in_place_of_the_task_or_run_it_again(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    class Cache(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            if task.name == "cached":
                return "from the cache"
            try:
                return await call_next()
            except ConnectionError:
                return await call_next()

    queue = make_queue(middleware=[Cache()])
    calls: list[str] = []

    @queue.task
    async def cached() -> str:
        calls.append("cached")
        return "fresh"

    @queue.task(max_retries=0)
    def flaky() -> str:
        calls.append("flaky")
        if len(calls) == 1:
            raise ConnectionError
        return "second time"

    await run_worker(queue)
    assert await (await cached.enqueue()).result(timeout=60) == "from the cache"
    assert await (await flaky.enqueue()).result(timeout=60) == "second time"
    assert calls == ["flaky", "flaky"]


async def test_a_timeout_goes_through_the_hooks(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    seen: list[str] = []

    class Watching(Middleware):
        async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
            try:
                return await call_next()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    queue = make_queue(middleware=[Watching()])

    @queue.task(timeout=0.05, max_retries=0)
    async def hangs() -> None:
        await asyncio.sleep(60)

    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="timeout"):
        await (await hangs.enqueue()).result(timeout=60)
    assert seen == ["cancelled"]


async def test_an_object_that_is_no_middleware_or_comes_too_late_is_refused(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    with pytest.raises(ConfigurationError, match="is no instance of a subclass"):
        queue.add_middleware(Recorder)  # type: ignore[arg-type]

    @queue.task
    async def task() -> None: ...

    await run_worker(queue)
    with pytest.raises(ConfigurationError, match="Recorder: add it before the first worker"):
        queue.add_middleware(Recorder("late", []))


def test_only_hooks_that_are_overridden_are_called(caplog: pytest.LogCaptureFixture) -> None:
    class OnlyStartup(Middleware):
        async def startup(self, worker: WorkerContext) -> None: ...

    stack = TaskQueue(middleware=[OnlyStartup()]).application.middleware
    assert (stack.enqueue, stack.execute, stack.execute_batch, stack.on_retry, stack.on_dead) == ((), (), (), (), ())
    assert not caplog.records or all(record.levelno < logging.WARNING for record in caplog.records)
