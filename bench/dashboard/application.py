"""The application of the bench: tasks of 20 ms, whose workers are full with about 5,000 a second, and many queues."""

from __future__ import annotations

import asyncio
import os

from taskfleet import QueueOptions, TaskQueue

QUEUES = [f"bench-{number:04}" for number in range(int(os.environ.get("BENCH_QUEUES", "1000")))]

BUSY = QUEUES[: int(os.environ.get("BENCH_BUSY", "20"))]
"""Those that the workers serve."""

queue = TaskQueue.from_config(queues=[QueueOptions(name) for name in QUEUES], result_ttl=0)


@queue.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
