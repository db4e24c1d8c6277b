"""Middleware, dependencies and batches. Both type checkers must find the marked errors, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from taskfleet import BatchItem, Depends, Middleware, Progress, TaskContext, TaskHandle, TaskQueue


class Session: ...


def plain() -> Session:
    return Session()


async def coroutine() -> Session:
    return Session()


def generator() -> Iterator[Session]:
    yield Session()


async def async_generator() -> AsyncIterator[Session]:
    yield Session()


@asynccontextmanager
async def context() -> AsyncIterator[Session]:
    yield Session()


class Trace(Middleware):
    async def execute(self, task: TaskContext, call_next: Any) -> Any:
        return await call_next()

    async def on_dead(self, task: TaskContext, reason: str) -> None: ...  # error: override
    def on_retry(self, task: TaskContext, reason: str, error: str, delay: float) -> None: ...  # error: override


queue = TaskQueue(middleware=[Trace()])
queue.add_middleware(Trace)  # error: arg-type


@queue.task
async def by_default(
    x: int,
    a: Session = Depends(plain),
    b: Session = Depends(coroutine),
    c: Session = Depends(generator),
    d: Session = Depends(async_generator, scope="worker"),
    e: Session = Depends(context),
    f: Session = Depends(Session),
) -> str:
    return str(x)


@queue.task
async def marked(x: int, db: Annotated[Session, Depends(plain)]) -> str:
    return str(x)


def wrong(x: int = Depends(plain)) -> None: ...  # error: assignment


Depends(plain, scope="process")  # error: call-overload


def row(name: str, quantity: int = 1) -> float:
    return 0.0


@queue.batch_task(size=10, item=row)
async def store(items: list[BatchItem]) -> Sequence[float]:
    return [0.0 for _ in items]


@queue.batch_task()
async def anything(items: list[BatchItem]) -> list[int]:
    return [1 for _ in items]


queue.batch_task(sise=10)  # error: call-overload


async def calls() -> None:
    handle: TaskHandle[str] = await by_default.enqueue(1)
    await by_default(1, Session())
    await marked(1, db=Session())
    await marked.enqueue(1)  # error: call-arg
    number: TaskHandle[float] = await store.enqueue("a", quantity=2)
    await queue.enqueue_many([store.message("a"), store.options(delay=1).message("b", 2)])
    await store.enqueue(1)  # error: arg-type
    wrong: TaskHandle[int] = await store.enqueue("a")  # error: assignment
    outcomes: Sequence[float] = await store([BatchItem("id", ("a",))])
    await anything.enqueue(1, two=2)
    progress: Progress | None = await handle.progress()
    with queue.override(plain, lambda: Session()):
        pass
