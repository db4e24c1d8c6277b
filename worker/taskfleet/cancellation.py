"""Ending tasks of the event loop for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until it works; what they ended with is of no interest.

    A cancellation that comes just as a reply does, or a connection is made, can get lost inside the client. It is the
    plain cancellation of asyncio: tasks of ours do not listen to others (`taskfleet.background`).
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
