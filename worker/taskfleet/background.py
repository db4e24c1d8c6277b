"""Tasks of our own on the application's loop, which no task of a worker can stop or lend its context."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

from taskfleet.context import CURRENT, caller

R = TypeVar("R")


class BackgroundTask(asyncio.Task[R]):
    """Takes no cancellation from code that a worker runs; `cancellation.end` and the end of the loop still can.

    A task that cancels all others of its loop, to clean up after itself, would otherwise end the worker and the calls
    of its neighbours with it.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        return caller() is None and super().cancel(msg)


def start(work: Coroutine[Any, Any, R], *, context: contextvars.Context | None = None) -> asyncio.Task[R]:
    """Run `work` on the running loop, in `context`: by default an empty one, since it is no caller's in particular."""
    context = contextvars.Context() if context is None else context
    return BackgroundTask(work, loop=asyncio.get_running_loop(), context=context)


def of_the_application() -> contextvars.Context:
    """For what the application starts and keeps: a copy of the caller's context, part of no task that calls."""
    context = contextvars.copy_context()
    if CURRENT.get() is not None:
        context.run(CURRENT.set, None)
    return context
