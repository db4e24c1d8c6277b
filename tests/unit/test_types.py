"""Wrong calls must fail type checking: the type checkers are run on calls with the error each of them must have."""

from __future__ import annotations

import json
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
    await queue.add_schedule(name="a", schedule="@daily", task=add, args=[1])
    await queue.add_schedule(name="b", every=60, task=plain, kwargs={"a": 1}, concurrency_policy="Forbid")
    await queue.add_schedule(name="c", schedule="@daily", task="add", concurrency_policy="forbid")  # error: arg-type
    await queue.add_schedule(name="d", schedule="@daily", task=5)  # error: arg-type
"""

OPTIONS = """
from datetime import UTC, datetime, timedelta

from taskfleet import BatchItem, Retry, Task, TaskHandle, TaskQueue
from taskfleet.tasks.options import CallOptions

queue = TaskQueue()

def key(a: int) -> str: return str(a)
def number(a: int) -> int: return a

@queue.task(
    name="one", queue="q", max_retries=1, timeout=timedelta(minutes=1), retry=Retry.fixed(1), max_age=None,
    never_retry=ValueError, always_retry=[OSError], executor="thread", result_ttl=0, expires=timedelta(days=1), delay=1,
    unique_key=key, unique_mode="debounce", limit_key="l", fair_key=key,
)
def one(a: int) -> str: return str(a)

@queue.batch_task(
    size=10, window_ms=timedelta(milliseconds=50), name="many", queue="q", max_retries=1, timeout=None,
    retry=Retry.fixed(1), max_age=1, never_retry=(ValueError,), always_retry={OSError}, result_ttl=None, expires=1.5,
    delay=1, unique_key=key, unique_mode="replace", limit_key=key, fair_key="f",
)
def many(items: list[BatchItem]) -> list[int]: return [1]

class Report(Task):
    async def execute(self) -> None: ...

queue.task(quue="x")  # error: call-overload
queue.task(queue=None)  # error: call-overload
queue.task(max_retries="3")  # error: call-overload
queue.task(max_retries=None)  # error: call-overload
queue.task(timeout="1")  # error: call-overload
queue.task(executor="process ")  # error: call-overload
queue.task(unique_key=number)  # error: arg-type
queue.task(unique_mode="keep")  # error: call-overload
queue.task(never_retry=1)  # error: call-overload
queue.task(eta=datetime.now(UTC))  # error: call-overload
queue.task(after=[])  # error: call-overload
queue.batch_task(quue="x")  # error: call-overload
queue.batch_task(delay=None)  # error: call-overload
queue.batch_task(executor="thread")  # error: call-overload
queue.batch_task(size="10")  # error: call-overload
queue.batch_task(retry=3)  # error: call-overload
queue.batch_task(wait_for_room=1)  # error: call-overload

def calls(handle: TaskHandle[int]) -> None:
    one.options(
        queue="q", delay=timedelta(1), expires=1, max_retries=0, timeout=1, result_ttl=1, retry=Retry.fixed(1),
        max_age=1, unique_key="u", unique_mode="replace", limit_key="l", fair_key="f", after=[handle], wait_for_room=1,
    )
    many.options(queue=None, eta=datetime.now(UTC), max_retries=None, retry=None, unique_mode=None, unique_key=None)
    one.options(quue="x")  # error: call-arg
    one.options(queue=3)  # error: arg-type
    one.options(delay=None)  # error: arg-type
    one.options(eta=3.0)  # error: arg-type
    one.options(unique_key=key)  # error: arg-type
    one.options(unique_mode="keep")  # error: arg-type
    one.options(after=handle)  # error: arg-type
    one.options(executor="thread")  # error: call-arg
    one.options(never_retry=ValueError)  # error: call-arg
    one.options(name="x")  # error: call-arg
    many.options(timeout="1")  # error: arg-type
    many.options(size=10)  # error: call-arg
    Report().message({"delay": 1})
    Report().message(CallOptions(eta=datetime.now(UTC)))
    Report().message({"dealy": 1})  # error: arg-type
    Report().message({"delay": "1"})  # error: arg-type
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


ROOT = Path(__file__).parents[2]


def expected_in(calls: str) -> set[tuple[int, str]]:
    """The line and mypy's code of each error that `calls` must have."""
    return {
        (number, match[1])
        for number, line in enumerate(calls.splitlines(), 1)
        if (match := re.search(r"# error: ([\w-]+)", line))
    }


def checked_by(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("calls", [CALLS, OPTIONS, HOOKS], ids=["calls", "options", "hooks"])
def test_wrong_calls_fail_type_checking(tmp_path: Path, calls: str) -> None:
    path = tmp_path / "calls.py"
    path.write_text(calls)
    done = checked_by("mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(path))
    found = {
        (int(match[1]), match[2])
        for match in re.finditer(r"calls\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert found == expected_in(calls), done.stdout + done.stderr


def test_both_type_checkers_refuse_the_same_options(tmp_path: Path) -> None:
    path = tmp_path / "calls.py"
    path.write_text(OPTIONS)
    done = checked_by("basedpyright", "--outputjson", str(path))
    errors = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    lines = {each["range"]["start"]["line"] + 1 for each in errors}
    assert lines == {line for line, _ in expected_in(OPTIONS)}, errors
