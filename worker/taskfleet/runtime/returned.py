"""What a function has returned instead of having done it: coroutines, generators and other promises."""

from __future__ import annotations

import asyncio
import contextlib
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from taskfleet import describing

PLAIN_TYPES = frozenset({bool, int, float, str, bytes, list, dict, tuple})
"""Types of which every value is finished; most results are of these."""


def unfinished(value: Any) -> str:
    """What a value is that nothing has run of, and what to do about it; empty for a value. A coroutine is closed."""
    kind = type(value)
    if kind is CoroutineType:
        with contextlib.suppress(BaseException):
            value.close()  # or the interpreter would warn of it, somewhere else
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
    """Whether it can be awaited, by its type: attributes of its own may be anything."""
    return any("__await__" in one.__dict__ for one in type.mro(type(value)))
