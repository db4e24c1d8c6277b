"""What is measured. Each scenario runs one peer once, on a server of its own, and returns metric → value."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bench.children import Child
from bench.errors import BenchError
from bench.figures import percentile
from bench.peer import Program, Role
from bench.server import RedisServer

_START_SECONDS = 30.0
_WARM_TASKS = 200
_LATENCY_WARM = 10
_LATENCY_INTERVAL_MS = 100
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of each peer."""

    tasks: int = 20_000
    slots: int = 100
    producers: int = 50
    latency_tasks: int = 200
    timeout: float = 300.0  # seconds for one step


@dataclass(frozen=True, slots=True)
class Stage:
    """A fresh server, and a peer's processes on it."""

    program: Program
    label: str
    server: RedisServer
    load: Load
    stack: ExitStack

    def child(self, role: Role) -> Child:
        command = (*self.program.command, role)
        environment = {**self.program.environment, "REDIS_URL": self.server.url}
        child = self.stack.enter_context(Child(f"{self.label} {role}", command, environment))
        child.expect("ready", _START_SECONDS)
        return child

    def fill(self, producer: Child, tasks: int) -> None:
        """Enqueue in the way that every peer has."""
        producer.ask("enqueue", self.load.timeout, tasks=tasks, producers=self.load.producers)

    def drain(self, worker: Child, tasks: int) -> float:
        """Have the worker empty the queue; seconds from the first task's start to the last one's end."""
        worker.send("work", tasks=tasks, slots=self.load.slots)
        worker.expect("consuming", _START_SECONDS)
        done = worker.expect("done", self.load.timeout)
        if done["tasks"] != tasks:
            raise BenchError(f"{self.label} ran {done['tasks']} tasks of {tasks}")
        return float(done["seconds"])


def drain(stage: Stage) -> dict[str, float]:
    """A backlog of no-ops and one warmed worker process."""
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.fill(producer, _WARM_TASKS)
    stage.drain(worker, _WARM_TASKS)
    empty = stage.server.usage()
    stage.fill(producer, stage.load.tasks)
    full = stage.server.usage()
    cpu_before = worker.cpu_seconds()
    seconds = stage.drain(worker, stage.load.tasks)
    cpu_after = worker.cpu_seconds()
    after = stage.server.usage()
    tasks = stage.load.tasks
    figures = {"tasks_per_second": tasks / seconds}
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_us_per_task"] = (cpu_after - cpu_before) / tasks * 1e6
    figures |= {
        "redis_cpu_us_per_task": (after.cpu_seconds - full.cpu_seconds) / tasks * 1e6,
        "redis_commands_per_task": (after.commands - full.commands) / tasks,
        "script_calls_per_task": (after.calls - full.calls) / tasks,
        "redis_bytes_per_task": (full.bytes_used - empty.bytes_used) / tasks,
    }
    if (resident := worker.resident_bytes()) is not None:
        figures["worker_resident_mib"] = resident / 2**20
    return figures


def enqueue(stage: Stage) -> dict[str, float]:
    """Concurrent producers in one process, each sending one task after the other."""
    producer = stage.child("producer")
    stage.fill(producer, _WARM_TASKS)
    answer = producer.ask("enqueue", stage.load.timeout, tasks=stage.load.tasks, producers=stage.load.producers)
    stage.drain(stage.child("worker"), _WARM_TASKS + stage.load.tasks)  # what was sent is there
    return {"tasks_per_second": stage.load.tasks / answer["seconds"]}


def enqueue_bulk(stage: Stage) -> dict[str, float]:
    """One producer that hands over many tasks at once."""
    producer = stage.child("producer")
    producer.ask("enqueue_bulk", stage.load.timeout, tasks=_WARM_TASKS)
    answer = producer.ask("enqueue_bulk", stage.load.timeout, tasks=stage.load.tasks)
    stage.drain(stage.child("worker"), _WARM_TASKS + stage.load.tasks)
    return {"tasks_per_second": stage.load.tasks / answer["seconds"]}


def latency(stage: Stage) -> dict[str, float]:
    """An idle worker and a task every 100 ms: from the call of enqueue to the first line of the task."""
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.fill(producer, _WARM_TASKS)
    stage.drain(worker, _WARM_TASKS)
    tasks = stage.load.latency_tasks + _LATENCY_WARM
    worker.send("work", tasks=tasks, slots=stage.load.slots)
    worker.expect("consuming", _START_SECONDS)
    time.sleep(_IDLE_SECONDS)  # idle is what is measured
    producer.ask("enqueue_paced", stage.load.timeout, tasks=tasks, interval_ms=_LATENCY_INTERVAL_MS)
    done = worker.expect("done", stage.load.timeout)
    milliseconds = [value / 1000 for value in done["latencies_us"][_LATENCY_WARM:]]
    return {"p50": percentile(milliseconds, 50), "p99": percentile(milliseconds, 99), "max": max(milliseconds)}


SCENARIOS: dict[str, Callable[[Stage], dict[str, float]]] = {
    "drain": drain,
    "enqueue": enqueue,
    "enqueue_bulk": enqueue_bulk,
    "latency": latency,
}

UNITS = {
    "tasks_per_second": "tasks/s",
    "worker_cpu_us_per_task": "µs",
    "redis_cpu_us_per_task": "µs",
    "redis_commands_per_task": "commands",
    "script_calls_per_task": "calls",
    "redis_bytes_per_task": "bytes",
    "worker_resident_mib": "MiB",
    "p50": "ms",
    "p99": "ms",
    "max": "ms",
}
