"""Return values that stand for unfinished work: coroutines, generators and other awaitables."""

from __future__ import annotations

import asyncio
import contextlib
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from taskfleet import describing

PLAIN_TYPES = frozenset({bool, int, float, str, bytes, list, dict, tuple})
"""Types whose values are always finished; most results have one of them."""


def unfinished(value: Any) -> str:
    """A description of an unfinished return value, with advice; empty for other values. A coroutine is closed."""
    kind = type(value)
    if kind is CoroutineType:
        with contextlib.suppress(BaseException):
            value.close()  # otherwise the interpreter would warn of it at another point
        name = getattr(value, "__qualname__", "?")
        return f"the coroutine {name} that nobody has awaited: nothing of it has run; add await"
    if kind is GeneratorType:
        return "a generator: nothing of it has run; return a list of what it gives"
    if kind is AsyncGeneratorType:
        return "an async generator: nothing of it has run; return a list of what it gives"
    if is_awaitable(value):
        if isinstance(value, asyncio.Future):
            value.cancel()
        return f"a {describing.name_of(kind)} that nobody has awaited; add await"
    return ""


def is_awaitable(value: Any) -> bool:
    """Whether the value can be awaited, judged by its class, since instance attributes may be anything."""
    return any("__await__" in one.__dict__ for one in type.mro(type(value)))
