"""An application for worker processes that tests start."""

from __future__ import annotations

import asyncio
from pathlib import Path

from taskfleet import TaskQueue

queue = TaskQueue.from_config()


@queue.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@queue.task
async def hold(file: str) -> None:
    """Runs until there is this file."""
    while not Path(file).exists():  # noqa: ASYNC110 - it is made by another process
        await asyncio.sleep(0.02)
