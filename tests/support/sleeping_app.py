"""An application for worker processes that tests start."""

from __future__ import annotations

import asyncio

from taskfleet import TaskQueue

queue = TaskQueue.from_config()


@queue.task
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
