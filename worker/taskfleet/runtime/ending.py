"""Ending tasks of the event loop for certain."""

from __future__ import annotations

import asyncio


async def end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until it works: a cancellation that comes just as a reply does can get lost inside the client."""
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
