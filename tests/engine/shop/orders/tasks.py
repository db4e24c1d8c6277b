from __future__ import annotations

import asyncio

from taskfleet import Task, TaskQueue, current_task

queue = TaskQueue.from_config()
gates: dict[str, asyncio.Event] = {}


@queue.task(max_retries=0)
async def wait_for(gate: str) -> int:
    """Which attempt it was that saw the gate open."""
    await gates[gate].wait()
    return current_task().attempt * 100 + current_task().delivery


@queue.task(max_retries=0)
async def nap(n: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return n


class Ship(Task):
    order: int

    async def execute(self) -> str:
        return f"shipped {self.order}"
