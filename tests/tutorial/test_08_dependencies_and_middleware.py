"""8. The surroundings of a task: dependencies that its worker provides, and middleware around calls and runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from taskfleet import Depends, Middleware, TaskContext, TaskQueue
from tests.tutorial.conftest import MakeQueue

events: list[str] = []


async def pool() -> AsyncIterator[str]:
    """Made once for a worker, closed when it ends."""
    events.append("pool opens")
    yield "pool"
    events.append("pool closes")


async def session(task: TaskContext, pool: str = Depends(pool, scope="worker")) -> AsyncIterator[str]:
    """Made for each run. Dependencies may need others, and the context of the task."""
    yield f"session of {task.name} from the {pool}"


async def test_a_worker_gives_a_task_its_dependencies(queue: TaskQueue) -> None:
    events.clear()

    @queue.task
    async def dispatch_order(order: int, db: str = Depends(session)) -> str:
        return f"order {order}: {db}"

    await queue.start_workers(1)
    handles = [await dispatch_order.enqueue(n) for n in (1, 2)]  # the caller gives the order only
    assert await handles[0].result(timeout=60) == "order 1: session of dispatch_order from the pool"
    assert await handles[1].result(timeout=60) == "order 2: session of dispatch_order from the pool"

    with queue.override(session, lambda: "a fake"):  # for tests
        assert await (await dispatch_order.enqueue(3)).result(timeout=60) == "order 3: a fake"

    await queue.stop_workers()
    assert events == ["pool opens", "pool closes"]


class Tracing(Middleware):
    """Headers travel with the task, from the code around `enqueue` to the code around the run."""

    async def enqueue(self, messages: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        for message in messages:
            message.headers["trace"] = "request-7"
        return await call_next()

    async def execute(self, task: TaskContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        events.append(f"{task.headers['trace']}: {task.name} begins")
        result = await call_next()
        events.append(f"{task.headers['trace']}: {task.name} ends")
        return result


async def test_middleware_runs_around_calls_and_runs(make_queue: MakeQueue) -> None:
    events.clear()
    queue = make_queue(middleware=[Tracing()])

    @queue.task
    async def greet(name: str) -> str:
        return f"hello {name}"

    await queue.start_workers(1)
    assert await (await greet.enqueue("Ada")).result(timeout=60) == "hello Ada"
    assert events == ["request-7: greet begins", "request-7: greet ends"]
