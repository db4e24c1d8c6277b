"""Idle workers: `idle.py COUNT QUEUES`, with REDIS_URL set.

It says `ready` when all of them wait for work, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import uvloop

from taskfleet import TaskQueue
from taskfleet.runtime.worker import Worker

_LOOK_SECONDS = 0.05


async def _main(count: int, queues: int) -> None:
    names = [f"queue-{n}" for n in range(queues)]
    fleets = [TaskQueue(os.environ["REDIS_URL"], queues=names) for _ in range(count)]
    workers = [Worker(queue, queues=names, name=f"{os.getpid()}-{n}") for n, queue in enumerate(fleets)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    while not all(worker.health.ready for worker in workers):  # noqa: ASYNC110 - a thread sets it, and tells no loop
        await asyncio.sleep(_LOOK_SECONDS)
    print(json.dumps({"event": "ready"}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for worker in workers:
        worker.drain()
    await asyncio.gather(*running)
    for queue in fleets:
        await queue.close()


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:])))
