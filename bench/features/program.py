"""One case as a producer and a worker, in a process each: `program.py NAME producer|worker` speaks JSON lines.

The worker takes its own figures, since they begin and end while it runs: its first request warms it up, and a process
task has children, whose starts are not what is asked for.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.features.cases import FEATURES, Case
from bench.protocol import AsyncPeer, Reply, Request, serve
from taskfleet import __version__, logs
from taskfleet.process.worker_process import settle_memory
from taskfleet.protocol import outcome
from taskfleet.runtime.worker import Worker

_ENDS = (outcome.SUCCEEDED, outcome.FAILED)
_LOOK_SECONDS = 0.002


class Program(AsyncPeer):
    """A feature as a peer: its requests are `enqueue` and `work`."""

    version = __version__

    def __init__(self, name: str) -> None:
        self._case: Case = FEATURES[name].make(os.environ["REDIS_URL"])
        self._worker: Worker | None = None
        self._running: asyncio.Task[None] | None = None

    async def open(self, role: str) -> None:
        if role == "worker":
            settle_memory()  # as `taskfleet worker` does

    async def close(self) -> None:
        if self._worker is not None and self._running is not None:
            self._worker.drain()
            await self._running
        await self._case.queue.close()

    def sender(self, task: str) -> Any:
        raise NotImplementedError("a case has a way of its own to send")

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        raise NotImplementedError("a case counts what ends")

    async def enqueue(self, request: Request) -> Reply:
        before, redis_before = _cpu_seconds(), await self._redis_seconds()
        began = time.perf_counter()
        runs = await self._case.send(request["tasks"])
        took = time.perf_counter() - began
        return {
            "tasks": runs,
            "seconds": took,
            "cpu": _cpu_seconds() - before,
            "redis": await self._redis_seconds() - redis_before,
        }

    async def work(self, request: Request) -> Reply:
        """Run until so many tasks have ended since the first request, and measure those of this one."""
        if self._worker is None or self._running is None:
            self._worker = Worker(self._case.queue, queues=["default"], concurrency=request["slots"])
            self._running = asyncio.create_task(self._worker.run())
        worker, running = self._worker, self._running
        earlier = await self._ended(worker, running, 0)
        before, redis_before = _cpu_seconds(), await self._redis_seconds()
        began = time.perf_counter()
        ended = await self._ended(worker, running, request["tasks"])
        took = time.perf_counter() - began
        return {
            "tasks": ended - earlier,
            "seconds": took,
            "cpu": _cpu_seconds() - before,
            "redis": await self._redis_seconds() - redis_before,
        }

    async def _ended(self, worker: Worker, running: asyncio.Task[None], tasks: int) -> int:
        """Wait until so many have ended; how many it was when that was seen."""
        while True:
            figures = [*worker.tally.tasks.values()]
            if (ended := sum(one.counts[code] for one in figures for code in _ENDS)) >= tasks:
                return ended
            if running.done():
                raise RuntimeError(f"the worker has ended with {ended} of {tasks} tasks")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _redis_seconds(self) -> float:
        """Processor time of the server so far."""
        broker: Any = self._case.queue.broker
        cpu = await broker.client.redis.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _cpu_seconds() -> float:
    """Processor time of this process and of its children so far."""
    return time.process_time() + sum(map(_cpu_of, _children(os.getpid())))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text(encoding="ascii").split()):
            found += [child, *_children(child)]
    return found


def _cpu_of(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0  # it has ended
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    logs.configure("info", "text")  # as `taskfleet worker`: what a failing task costs is its log line, too
    uvloop.run(serve(Program(sys.argv[1]), sys.argv[2]))
