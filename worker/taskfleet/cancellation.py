"""Cancel asyncio tasks, and make sure that they end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, again and again until all have ended. Their results and errors are dropped.

    The Redis client can lose a cancellation that comes at the moment of a reply or of a new connection, so one is not
    enough. It calls `asyncio.Task.cancel` directly, because background tasks override it (`taskfleet.background`).
    """
    ended = set(tasks)
    pending = ended
    while pending:
        for task in pending:
            asyncio.Task.cancel(task)
        _, pending = await asyncio.wait(pending, timeout=0.5)
    for task in ended:
        if not task.cancelled():
            task.exception()
