"""Taskfleet as a peer of the bench: `peer.py producer|worker` speaks JSON lines (bench/README.md)."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from taskfleet import TaskQueue, __version__
from taskfleet.runtime.process import settle_memory
from taskfleet.runtime.worker import Worker

# Results off: a finished task leaves nothing behind.
queue = TaskQueue(os.environ["REDIS_URL"], result_ttl=0)


class Tally:
    """What the task sees of one measurement. Times are microseconds of the machine's monotonic clock."""

    def __init__(self) -> None:
        self.expect(0)

    def expect(self, tasks: int) -> None:
        self.left = tasks
        self.began = self.ended = 0.0
        self.latencies: list[float] = []
        self.finished = asyncio.Event()


tally = Tally()


def now() -> float:
    return time.monotonic_ns() / 1e3


@queue.task
async def noop(at: float) -> None:
    if not tally.began:
        tally.began = now()
    if at > 0:
        tally.latencies.append(now() - at)
    tally.left -= 1
    if tally.left == 0:
        tally.ended = now()
        tally.finished.set()


async def enqueue(request: dict[str, Any]) -> dict[str, Any]:
    left = request["tasks"]

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await noop.enqueue(0.0)

    began = now()
    async with asyncio.TaskGroup() as group:
        for _ in range(request["producers"]):
            group.create_task(one())
    return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}


async def enqueue_bulk(request: dict[str, Any]) -> dict[str, Any]:
    began = now()
    await queue.enqueue_many([noop.message(0.0) for _ in range(request["tasks"])])
    return {"tasks": request["tasks"], "seconds": (now() - began) / 1e6}


async def enqueue_paced(request: dict[str, Any]) -> dict[str, Any]:
    for _ in range(request["tasks"]):
        await noop.enqueue(now())
        await asyncio.sleep(request["interval_ms"] / 1e3)
    return {"tasks": request["tasks"]}


async def work(request: dict[str, Any]) -> dict[str, Any]:
    """The worker of `taskfleet worker`, in this process so that it can be measured from within."""
    tally.expect(request["tasks"])
    worker = Worker(queue, queues=["default"], concurrency=request["slots"])
    running = asyncio.create_task(worker.run())
    say({"event": "consuming"})
    await tally.finished.wait()
    worker.drain()
    await running
    return {
        "tasks": request["tasks"] - tally.left,
        "seconds": (tally.ended - tally.began) / 1e6,
        "latencies_us": tally.latencies,
    }


OPERATIONS: dict[str, dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]] = {
    "producer": {"enqueue": enqueue, "enqueue_bulk": enqueue_bulk, "enqueue_paced": enqueue_paced},
    "worker": {"work": work},
}


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def serve(role: str) -> None:
    if role == "worker":
        settle_memory()  # as `taskfleet worker` does
    say({"event": "ready", "version": __version__, "runtime": f"Python {platform.python_version()}, uvloop"})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = await OPERATIONS[role][request["op"]](request)
        except Exception as error:
            say({"event": "error", "error": f"{type(error).__name__}: {error}"})
        else:
            say({"event": "done", **answer})
    await queue.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
