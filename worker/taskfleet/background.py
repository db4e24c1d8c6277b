"""The library's own asyncio tasks on the application's event loop.

The tasks that a worker runs share that loop. They can neither cancel these tasks nor pass their context on to them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

from taskfleet.context import CURRENT, caller

R = TypeVar("R")


class BackgroundTask(asyncio.Task[R]):
    """An asyncio task that ignores cancellations by code of a worker's task.

    A task that cancels all others of its loop, to clean up after itself, would otherwise end the worker and the calls
    of its neighbours. `cancellation.end` and the end of the loop still cancel it.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        return caller() is None and super().cancel(msg)


def start(work: Coroutine[Any, Any, R], *, context: contextvars.Context | None = None) -> asyncio.Task[R]:
    """Run `work` on the running loop, in `context`. The default is an empty context: the work belongs to no caller."""
    context = contextvars.Context() if context is None else context
    return BackgroundTask(work, loop=asyncio.get_running_loop(), context=context)


def of_the_application() -> contextvars.Context:
    """A context for work that the application starts and keeps: the caller's context, without the current task."""
    context = contextvars.copy_context()
    if CURRENT.get() is not None:
        context.run(CURRENT.set, None)
    return context
