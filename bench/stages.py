"""Where the time of an idle pick-up and of its result goes, by hand: `python -m bench.stages [TASKS]`.

A producer, a worker and Redis, each a process of its own; every 100 ms a task whose result the producer awaits. Both
processes note when they write to a socket of Redis and when they read from it. The clock is the machine's.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import redis
import uvloop

from bench.figures import percentile
from bench.server import BenchServer, ServerProgram
from taskfleet import TaskQueue
from taskfleet.child_process import ends_with_this_process
from taskfleet.process.worker_process import settle_memory
from taskfleet.redis import scripts
from taskfleet.redis.wire import Wire
from taskfleet.runtime.worker import Worker

_TASKS, _WARM = 200, 20
_PAUSE_SECONDS = 0.1
_LOGGED_US = 10  # a faster call would be no cold one


class Noted(Wire):
    """A connection that notes the moments, in µs, of its last writes and reads."""

    writes: list[tuple[float, float]] = []  # noqa: RUF012 - of all connections of the process
    reads: list[float] = []  # noqa: RUF012

    def send(self, packed: bytes, expected: int, arrived: Any = None) -> asyncio.Future[list[Any]]:
        began = _now()
        waiter = super().send(packed, expected, arrived)
        self.writes.append((began, _now()))
        return waiter

    def data_received(self, data: bytes) -> None:
        self.reads.append(_now())
        super().data_received(data)


def _now() -> float:
    return time.monotonic_ns() / 1000


def _note_all() -> None:
    from taskfleet.redis import held_connections

    held_connections.Wire = Noted  # type: ignore[misc]


def _application(url: str) -> tuple[TaskQueue, Any, list[list[float]]]:
    queue = TaskQueue(url)
    rows: list[list[float]] = []

    @queue.task
    async def echo(at: float) -> float:
        rows.append([at, Noted.reads[-1], _now()])
        del Noted.reads[:-1]
        return at

    return queue, echo, rows


async def _produce(url: str, tasks: int) -> None:
    queue, echo, _ = _application(url)
    rows: list[list[float]] = []
    for _ in range(tasks + _WARM):
        await asyncio.sleep(_PAUSE_SECONDS)
        Noted.writes.clear()
        began = _now()
        handle = await echo.enqueue(began)
        returned = _now()
        await handle.result()
        rows.append([began, *Noted.writes[0], returned, _now()])
    await queue.close()
    print(json.dumps(rows[_WARM:]))


async def _work(url: str, tasks: int) -> None:
    settle_memory()
    queue, _, rows = _application(url)
    worker = Worker(queue, queues=["default"], concurrency=100)
    running = asyncio.create_task(worker.run())
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    worker.drain()
    await running
    await queue.close()
    print(json.dumps(rows[_WARM:]), flush=True)


def _measured(url: str, tasks: int) -> tuple[list[list[float]], list[list[float]]]:
    """What the producer has noted, and what the worker has."""
    command = [sys.executable, "-m", "bench.stages"]
    with subprocess.Popen(
        [*command, "work", url, str(tasks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=ends_with_this_process(),
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        produced = subprocess.run(
            [*command, "produce", url, str(tasks)], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        worker.stdin.write("\n")
        worker.stdin.flush()
        return json.loads(produced), json.loads(worker.stdout.readline())


def _report(tasks: int) -> None:
    with BenchServer(ServerProgram.find()) as server:
        client: Any = redis.Redis.from_url(server.url)
        client.config_set("slowlog-log-slower-than", _LOGGED_US)
        client.config_set("slowlog-max-len", 100 * tasks)
        produced, ran = _measured(server.url, tasks)
        calls = client.slowlog_get(100 * tasks)
    started = {row[0]: row[1:] for row in ran}
    stages: dict[str, list[float]] = {
        "enqueue() to the write": [],
        "the write": [],
        "the write to the worker's read": [],
        "the worker's read to the task": [],
        "pick-up, together": [],
        "the task to the result in hand": [],
        "result, together": [],
        "enqueue() to its return": [],
    }
    for began, write, written, returned, ended in produced:
        read, task = started[began]
        moments = (
            write - began, written - write, read - written, task - read, task - began, ended - task, ended - began,
            returned - began,
        )  # fmt: skip
        for stage, took in zip(stages.values(), moments, strict=True):
            stage.append(took)
    for name, taken in stages.items():
        print(f"{name:32} p50 {percentile(taken, 50):6.0f} µs   p99 {percentile(taken, 99):6.0f} µs")
    for name, times in _scripts(calls).items():
        print(f"in Redis: {name:22} p50 {statistics.median(times):6.0f} µs   {len(times)} calls")


def _scripts(calls: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """The times of the calls of each script, of which there are some for each task."""
    names = {script.digest: script.name for script in vars(scripts).values() if isinstance(script, scripts.Script)}
    found: dict[str, list[float]] = {}
    for call in calls:
        words = call["command"].split()
        if words[0].upper() == b"EVALSHA" and (name := names.get(words[1].decode())) is not None:
            found.setdefault(name, []).append(call["duration"])
    return {name: times for name, times in sorted(found.items()) if len(times) > _WARM}


def main(arguments: list[str]) -> None:
    if arguments[:1] in (["produce"], ["work"]):
        role, url, tasks = arguments
        _note_all()
        uvloop.run({"produce": _produce, "work": _work}[role](url, int(tasks)))
    else:
        _report(int(arguments[0]) if arguments else _TASKS)


if __name__ == "__main__":
    main(sys.argv[1:])
