"""Each run has its own context: no task sees variables that another task has set."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from taskfleet import (
    BatchItem,
    CallNext,
    Depends,
    Middleware,
    Retry,
    RetryLater,
    Task,
    TaskContext,
    chord,
    current_task,
    group,
)
from taskfleet.middleware import WorkerContext
from tests.engine.conftest import MakeQueue, RunWorker, until

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture(autouse=True)
def application() -> Any:
    token = tenant.set("application")
    yield
    tenant.reset(token)


async def seen_by(handles: Sequence[Any]) -> list[Any]:
    return [await handle.result(timeout=60) for handle in handles]


def sees_and_sets(name: str) -> str:
    seen = tenant.get()
    tenant.set(name)
    return seen


async def test_a_task_sees_variables_set_before_the_worker_started(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(slots=3)

    @queue.task
    async def at_once(n: int) -> str:
        return sees_and_sets(f"at once {n}")

    @queue.task
    async def later(n: int) -> str:
        seen = sees_and_sets(f"later {n}")
        await asyncio.sleep(0.001)
        assert tenant.get() == f"later {n}"
        return seen

    @queue.task
    def in_thread(n: int) -> str:
        return sees_and_sets(f"thread {n}")

    calls = [task.message(n) for n in range(20) for task in (at_once, later, in_thread)]
    handles = await queue.enqueue_many(calls)
    await run_worker(queue)
    tenant.set("somebody else, after the start")
    assert set(await seen_by(handles)) == {"application"}


async def test_a_retry_starts_anew(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)

    @queue.task
    async def again() -> str:
        seen = sees_and_sets("the attempt before")
        if current_task().attempt < 3:
            raise RetryLater(0)
        return seen

    handles = await queue.enqueue_many([again.message() for _ in range(5)])
    await run_worker(queue)
    assert set(await seen_by(handles)) == {"application"}


class SeesTenant(Task):
    n: int

    async def execute(self) -> str:
        return sees_and_sets(f"class {self.n}")


async def test_class_tasks_and_callbacks_of_workflows_too(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)

    @queue.task
    async def member(n: int) -> str:
        return sees_and_sets(f"member {n}")

    @queue.task
    async def callback(seen: list[str]) -> list[str]:
        return [*seen, sees_and_sets("callback")]

    classes = [await queue.enqueue(SeesTenant(n=n), "default") for n in range(5)]
    ends = [await queue.enqueue(chord(group(member.message(1), member.message(2)), callback.message())) for _ in "ab"]
    await run_worker(queue)
    assert set(await seen_by(classes)) == {"application"}
    assert await seen_by(ends) == [["application"] * 3] * 2


async def test_batches_too(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)

    @queue.batch_task(size=3, window_ms=1)
    async def batch(items: list[BatchItem]) -> list[str]:
        seen = sees_and_sets("a batch")
        with pytest.raises(RuntimeError, match=r"use item\.context"):
            current_task()
        return [seen for _ in items]

    @queue.task
    async def single() -> str:
        return sees_and_sets("a task")

    handles = await queue.enqueue_many([each.message(*a) for a, each in [((1,), batch), ((), single)] * 6])  # type: ignore[attr-defined]
    await run_worker(queue)
    assert set(await seen_by(handles)) == {"application"}


class Remembers(BaseModel):
    n: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Remembers:
        tenant.set("a model")
        return super().__new__(cls)

    def model_post_init(self, context: Any) -> None:
        """A worker then builds the object field by field, without the validators that have run in the sender."""


async def test_arguments_are_built_in_the_context_of_their_run(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)

    @queue.task
    async def takes_model(model: Remembers) -> str:
        return tenant.get()

    @queue.task
    async def plain() -> str:
        return tenant.get()

    both = [message for n in range(5) for message in (takes_model.message(Remembers(n=n)), plain.message())]
    tenant.set("application")
    # Sent from another context, which does not matter here.
    handles = await asyncio.create_task(queue.enqueue_many(both), context=contextvars.copy_context())
    await run_worker(queue)
    seen = await seen_by(handles)
    assert seen[1::2] == ["application"] * 5
    assert seen[::2] == ["a model"] * 5


async def test_task_dependencies_are_made_in_the_context_of_the_run_and_worker_dependencies_in_none(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(slots=1)

    async def of_task(context: TaskContext) -> str:
        assert current_task().id == context.id
        return sees_and_sets("made for a task")

    async def of_worker() -> str:
        with pytest.raises(RuntimeError, match="only there inside a task"):
            current_task()
        return sees_and_sets("made for the worker")

    held = Depends(of_worker, scope="worker")

    @queue.task
    async def needs(n: int, own: str = Depends(of_task), shared: str = held) -> list[str]:
        seen = [own, shared, tenant.get()]
        tenant.set(f"task {n}")
        return seen

    @queue.task
    def needs_in_thread(n: int, own: str = Depends(of_task), shared: str = held) -> list[str]:
        return [own, shared, tenant.get()]

    handles = await queue.enqueue_many([task.message(n) for n in range(4) for task in (needs, needs_in_thread)])  # type: ignore[attr-defined]
    await run_worker(queue)
    assert await seen_by(handles) == [["application", "application", "made for a task"]] * 8


class Watching(Middleware):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, bool]] = []

    async def startup(self, worker: WorkerContext) -> None:
        tenant.set("startup")

    async def execute(self, task: TaskContext, call_next: CallNext) -> Any:
        assert current_task().id == task.id
        tenant.set(f"execute of {tenant.get()}")
        return await call_next()

    async def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None:
        self.told.append(("retry", sees_and_sets("on_retry"), current_task().id == task.id))

    async def on_dead(self, task: TaskContext, reason: str, error: str) -> None:
        self.told.append(("dead", sees_and_sets("on_dead"), current_task().id == task.id))


async def test_middleware_sets_up_for_all_and_its_hooks_are_told_in_a_context_of_their_own(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    watching = Watching()
    queue = make_queue(slots=1, middleware=[watching])

    @queue.task
    async def sees() -> str:
        return sees_and_sets("a task")

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fails() -> None:
        tenant.set("a task that fails")
        raise ValueError

    handles = await queue.enqueue_many([each.message() for _ in range(3) for each in (sees, fails)])  # type: ignore[attr-defined]
    await run_worker(queue)
    assert set(await seen_by(handles[::2])) == {"execute of startup"}
    await until(lambda: len(watching.told) == 6, "all hooks are told")
    assert set(watching.told) == {("retry", "startup", True), ("dead", "startup", True)}


async def test_tasks_and_threads_that_a_task_starts_have_its_context(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(slots=1)

    @queue.task
    async def starts(n: int) -> list[Any]:
        tenant.set(f"task {n}")

        async def child() -> list[Any]:
            return [tenant.get(), current_task().id]

        return [*await asyncio.create_task(child()), *await asyncio.to_thread(lambda: [tenant.get()])]

    handles = await queue.enqueue_many([starts.message(n) for n in range(5)])
    await run_worker(queue)
    assert await seen_by(handles) == [[f"task {n}", each.id, f"task {n}"] for n, each in enumerate(handles)]


async def test_the_next_task_in_a_thread_finds_no_event_loop(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=1)

    @queue.task
    def leaves_its_loop() -> int:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.close()
        return threading.get_ident()

    @queue.task
    def finds_none() -> int:
        with pytest.raises(RuntimeError, match="no current event loop"):
            asyncio.get_event_loop()
        return threading.get_ident()

    await run_worker(queue)

    async def in_the_same_thread() -> bool:
        left_in = await (await leaves_its_loop.enqueue()).result(timeout=60)
        return await (await finds_none.enqueue()).result(timeout=60) == left_in

    await until(in_the_same_thread, "one thread has run both")


async def test_the_log_of_the_worker_has_no_context_of_a_task(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(slots=1)
    said: list[tuple[str, str]] = []

    class Noting(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            said.append((record.getMessage(), tenant.get()))
            return True

    @queue.task
    async def sets() -> None:
        tenant.set("a task")
        await current_task().progress(1, 2)
        await asyncio.sleep(0.001)

    @queue.task(name="gone")
    async def gone() -> None: ...

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fails() -> None:
        tenant.set("a task that fails")
        raise ValueError

    messages = [each.message() for _ in range(5) for each in (sets, gone, fails)]
    await queue.enqueue_many(messages)
    queue.registry._definitions.pop("gone")
    noting = Noting()
    logger = logging.getLogger("taskfleet.worker")
    logger.addFilter(noting)
    try:
        await run_worker(queue)
        await until(lambda: len([1 for text, _ in said if "no task is named" in text]) == 5, "all are buried")
        await until(lambda: len([1 for text, _ in said if "(exception)" in text]) == 5, "all have failed")
    finally:
        logger.removeFilter(noting)
    assert {seen for _, seen in said} <= {"application"}


async def test_a_worker_that_a_task_starts_is_not_part_of_it(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue, other = make_queue(slots=1), make_queue(slots=1)

    @other.task(queue="other")
    async def inner() -> str:
        return current_task().name

    @queue.task
    async def outer() -> str:
        handle = await inner.enqueue()
        await other.start_workers(1, queues=["other"])
        try:
            return await handle.result(timeout=60)
        finally:
            await other.stop_workers()

    await run_worker(queue, queues=["default"])
    assert await (await outer.enqueue()).result(timeout=60) == "inner"
