"""An application that names its Redis in code. The environment configures everything else."""

from __future__ import annotations

import asyncio
import os

from taskfleet import TaskQueue

queue = TaskQueue(os.environ["REDIS_URL"])


@queue.task(max_retries=0)
async def long() -> None:
    await asyncio.sleep(3600)
