"""Tasks that run in processes. The processes import this module."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextvars import ContextVar
from decimal import Decimal
from typing import Annotated, Any

import pydantic

from taskfleet import Retry, RetryLater, Task, TaskQueue, current_task

queue = TaskQueue.from_config(queues=[{"name": "default", "lease_seconds": 30}])

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
tenant.set("set up when imported")


@queue.task(executor="process")
def where() -> int:
    return os.getpid()


@queue.task(executor="process", max_retries=1, retry=Retry.fixed(0.0))
def sees_and_sets(name: str) -> list[Any]:
    seen = tenant.get()
    tenant.set(name)
    if name == "fails at first" and current_task().attempt == 1:
        raise ValueError
    left = None
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        left = getattr(asyncio.get_event_loop(), "left_by", None)
    loop = asyncio.SelectorEventLoop()
    loop.left_by = name  # type: ignore[attr-defined]
    asyncio.set_event_loop(loop)
    in_thread: list[str] = []
    thread = threading.Thread(target=contextvars.copy_context().run, args=(lambda: in_thread.append(tenant.get()),))
    thread.start()
    thread.join()
    return [seen, left, in_thread, os.getpid(), current_task().id]


@queue.task(executor="process")
def about() -> list[Any]:
    task = current_task()
    left = (task.deadline - dt.datetime.now(dt.UTC)).total_seconds() if task.deadline else None
    return [task.id, task.name, task.queue, task.attempt, task.delivery, task.enqueued_at.timestamp(), left]


@queue.task(executor="process")
def add_days(day: dt.date, days: int, *, price: Decimal = Decimal(1)) -> tuple[dt.date, Decimal]:
    assert isinstance(day, dt.date)
    return day + dt.timedelta(days=days), price * 2


class Order(pydantic.BaseModel):
    n: int = pydantic.Field(alias="orderId")
    password: pydantic.SecretStr


def _shout(text: str) -> str:
    return text + "!"


@queue.task(executor="process")
def keep(order: Order, given: bytes | tuple[int, ...] | dict[int, str]) -> tuple[Any, ...] | list[Any]:
    assert isinstance(order, Order)
    return (order.n, order.password.get_secret_value(), given)


@queue.task(executor="process")
def shout(text: Annotated[str, pydantic.AfterValidator(_shout)]) -> Annotated[str, pydantic.AfterValidator(_shout)]:
    return text


@queue.task(executor="process", max_retries=0)
def backtrack() -> None:
    """One call of C code that no exception can interrupt."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@queue.task(executor="process")
def square(n: int) -> int:
    return n * n


@queue.task(executor="process", max_retries=0)
def nap(seconds: float, note: str = "") -> str:
    if note:
        _note(f"{note}:{os.getpid()}:{current_task().attempt}")
    time.sleep(seconds)
    return "done"


@queue.task(executor="process", max_retries=0)
def hold(what: str) -> str:
    """Runs until the test has released it: `release`."""
    import redis

    _note(f"{what}:{os.getpid()}:{current_task().attempt}")
    with redis.Redis.from_url(queue.url) as client:
        while not client.exists(f"{queue.broker.prefix}:released:{what}"):
            time.sleep(0.02)
    return "done"


async def release(shared: TaskQueue, what: str) -> None:
    await shared.broker.client.redis.set(f"{shared.broker.prefix}:released:{what}", 1, ex=120)


def _note(text: str) -> None:
    import redis

    with redis.Redis.from_url(queue.url) as client:
        client.rpush(f"{queue.broker.prefix}:ledger", text)


@queue.task(executor="process", max_retries=0)
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(60)


@queue.task(executor="process", max_retries=1, retry=Retry.fixed(0.0))
def die_once() -> int:
    if current_task().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return current_task().attempt


class OddError(Exception):
    """An exception that cannot be pickled, nor be made again from its arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.lock = threading.Lock()


class VeryOddError(OddError): ...


@queue.task(executor="process", max_retries=0)
def odd() -> None:
    raise VeryOddError(1, 2)


@queue.task(executor="process", max_retries=5, retry=Retry.fixed(0.0), never_retry=(OddError,))
def never() -> None:
    raise VeryOddError(1, 2)


@queue.task(executor="process", max_retries=0)
def leave() -> None:
    sys.exit("enough")


@queue.task(executor="process", retry=Retry.fixed(3600.0))
def later() -> int:
    if current_task().attempt == 1:
        raise RetryLater(0.01)
    return current_task().attempt


@queue.task(executor="process", max_retries=0)
def unfit() -> int:
    return "text"  # type: ignore[return-value]


@queue.task(executor="process")
def echo(text: str) -> str:
    return text


@queue.task(executor="process")
def sockets() -> list[str]:
    """The open sockets of this process."""
    found = []
    for fd in range(3, 256):
        try:
            with socket.socket(fileno=os.dup(fd)) as copy:
                found.append(copy.family.name)
        except OSError:
            pass
    return found


@queue.task(executor="process", max_retries=0)
def with_offspring(note: str) -> None:
    """Start a program, and never end."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _note(f"{note}:{child.pid}:1")
    time.sleep(600)


@queue.task(executor="process")
def enqueue_another(n: int) -> str:
    return square.enqueue_sync(n).id


@queue.task(executor="process", timeout=0.15, max_retries=100, retry=Retry.fixed(0.05))
def short() -> int:
    return current_task().attempt


@queue.task(executor="process", max_retries=0)
def count_up(to: int, then_sleep: float) -> dict[str, str]:
    for n in range(1, to + 1):
        current_task().progress_sync(n, to, "counting")
    time.sleep(then_sleep)
    return dict(current_task().headers)


@queue.task(executor="process", max_retries=0)
def report_nonsense() -> None:
    current_task().progress_sync("half")  # type: ignore[arg-type]


twice = queue.task(executor="process", name="twice")(square.__wrapped__)


def plain(n: int) -> int:
    return n + 1


beside = queue.task(executor="process", name="beside")(plain)


@queue.task(executor="process", max_retries=0)
def of_size(size: int) -> bytes:
    return bytes(size)


class InProcess(Task[list[Any]], executor="process"):
    more: Decimal

    def execute(self) -> list[Any]:
        return [os.getpid(), self.more + 1, current_task().name]
