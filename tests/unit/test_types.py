"""Wrong calls must fail type checking: mypy checks a file of calls, each with its expected error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = """
from taskfleet import TaskQueue, TaskHandle

queue = TaskQueue()

@queue.task
async def add(a: int, b: int = 1) -> str: return str(a + b)

@queue.task(max_retries=1)
def plain(a: int) -> bytes: return bytes(a)

async def calls() -> None:
    handle: TaskHandle[str] = await add.enqueue(1, b=2)
    text: str = await handle.result()
    data: bytes = plain(1)
    other: TaskHandle[bytes] = await plain.options(delay=1).enqueue(1)
    await queue.enqueue_many([add.message(1), add.message(2)])
    blocking: str = add.enqueue_sync(1, b=2).result_sync(timeout=1)
    other_blocking: TaskHandle[bytes] = plain.options(delay=1).enqueue_sync(1)
    add.enqueue_sync("x")  # error: arg-type
    plain.enqueue_sync()  # error: call-arg
    wrong_blocking: int = queue.enqueue_sync(add.message(1)).result_sync()  # error: assignment
    await add.enqueue("x")  # error: arg-type
    await add.enqueue(1, c=2)  # error: call-arg
    await plain.options(delay=1).enqueue()  # error: call-arg
    plain.options(dealy=1)  # error: call-arg
    wrong: int = await handle.result()  # error: assignment
    queue.task(quue="x")  # error: call-overload
    await queue.add_schedule(name="a", schedule="@daily", task=add, args=[1])
    await queue.add_schedule(name="b", every=60, task=plain, kwargs={"a": 1}, concurrency_policy="Forbid")
    await queue.add_schedule(name="c", schedule="@daily", task="add", concurrency_policy="forbid")  # error: arg-type
    await queue.add_schedule(name="d", schedule="@daily", task=5)  # error: arg-type
"""

HOOKS = """
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from taskfleet import BatchItem, Depends, Message, Middleware, Progress, TaskContext, TaskHandle, TaskQueue

class Session: ...

def plain() -> Session: return Session()
async def coroutine() -> Session: return Session()
def generator() -> Iterator[Session]: yield Session()
async def async_generator() -> AsyncIterator[Session]: yield Session()
@asynccontextmanager
async def context() -> AsyncIterator[Session]: yield Session()

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
) -> str: return str(x)

@queue.task
async def marked(x: int, db: Annotated[Session, Depends(plain)]) -> str: return str(x)

def wrong(x: int = Depends(plain)) -> None: ...  # error: assignment
Depends(plain, scope="process")  # error: call-overload

def row(name: str, quantity: int = 1) -> float: return 0.0

@queue.batch_task(size=10, item=row)
async def store(items: list[BatchItem]) -> Sequence[float]: return [0.0 for _ in items]

@queue.batch_task()
async def anything(items: list[BatchItem]) -> list[int]: return [1 for _ in items]

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
"""


@pytest.mark.parametrize("calls", [CALLS, HOOKS], ids=["calls", "hooks"])
def test_wrong_calls_fail_type_checking(tmp_path: Path, calls: str) -> None:
    path = tmp_path / "calls.py"
    path.write_text(calls)
    expected = {
        (number, match[1])
        for number, line in enumerate(calls.splitlines(), 1)
        if (match := re.search(r"# error: ([\w-]+)", line))
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "pyproject.toml"), str(path)],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    found = {
        (int(match[1]), match[2])
        for match in re.finditer(r"calls\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert found == expected, done.stdout + done.stderr
