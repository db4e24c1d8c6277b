"""Functions for processes. They raise and return objects that cannot be encoded."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, field_validator

from taskfleet import Retry, RetryLater, TaskQueue

queue = TaskQueue.from_config()


class _NoText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class _OddMeta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise KeyError("module")


class _OddClass(Exception, metaclass=_OddMeta):
    pass


class _Forgetful(RetryLater):
    def __init__(self) -> None:
        pass


class _Picky(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _never(cls, value: int) -> int:
        raise KeyError(value)


@queue.task(executor="process", max_retries=0)
def no_text() -> None:
    raise _NoText


@queue.task(executor="process", max_retries=0)
def odd_class() -> None:
    raise _OddClass


@queue.task(executor="process", max_retries=0)
def surrogate() -> None:
    raise ValueError("\ud800")


@queue.task(executor="process", max_retries=0)
def long_text() -> None:
    raise ValueError("x" * 20_000_000)


@queue.task(executor="process", max_retries=0)
def nothing_more() -> Any:
    return next(iter(()))


@queue.task(executor="process", max_retries=0)
def coroutine() -> Any:
    return asyncio.sleep(0)


@queue.task(executor="process", max_retries=0)
def generator() -> Any:
    return (n for n in range(3))


@queue.task(executor="process", max_retries=0)
def picky() -> _Picky:
    return {"n": 3}  # type: ignore[return-value]


@queue.task(executor="process", max_retries=1, retry=Retry.fixed(0))
def forgetful() -> None:
    raise _Forgetful
