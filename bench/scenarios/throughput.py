"""Tasks per second, and processor time per task."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import redis

from bench.children import PeerProcess
from bench.errors import BenchError
from bench.peer import CHECKOUT
from bench.scenarios.stage import IDLE_MS, START_SECONDS, Stage, pause

_IDLE_SECONDS = 1.0
_PINGS = 50
_LEAST_FAR = 200  # tasks
_FAR_SECONDS = 2.0
_CEILING_ROUNDS = 3


def drain(stage: Stage) -> dict[str, float]:
    """A backlog of no-ops and one warmed worker process: the rate, and processor time of worker and Redis per task."""
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.warm(producer, worker)
    empty = stage.server.usage()
    tasks = stage.load.tasks
    stage.fill(producer, tasks)
    full = stage.server.usage()
    cpu_before = worker.cpu_seconds()
    seconds = stage.drain(worker, tasks)
    cpu_after = worker.cpu_seconds()
    after = stage.server.usage()
    figures = {"tasks_per_second": tasks / seconds, "tasks": float(tasks)}
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_us_per_task"] = (cpu_after - cpu_before) / tasks * 1e6
    figures |= {
        "redis_cpu_us_per_task": (after.cpu_seconds - full.cpu_seconds) / tasks * 1e6,
        "round_trips_per_task": (after.reads - full.reads) / tasks,
        "script_calls_per_task": (after.calls - full.calls) / tasks,
        "commands_per_task": (after.commands - full.commands) / tasks,
        "bytes_per_waiting_task": (full.bytes_used - empty.bytes_used) / tasks,
    }
    if (resident := worker.resident_bytes()) is not None:
        figures["worker_after_drain_mb"] = resident / 1e6
        figures["worker_idle_mb"] = _idle_megabytes(stage, producer)
    return figures


def _idle_megabytes(stage: Stage, producer: PeerProcess) -> float:
    """Resident memory of a worker that has started, waits for work and has never had any."""
    worker = stage.child("worker")
    stage.begin_work(worker, 1)
    pause(_IDLE_SECONDS)
    resident = worker.resident_bytes() or 0
    stage.fill(producer, 1)
    stage.end_work(worker, 1)
    return resident / 1e6


def enqueue(stage: Stage) -> dict[str, float]:
    """Concurrent producers in one process, each sending one task after the other."""
    return _enqueue(stage, "enqueue", producers=stage.load.producers)


def enqueue_bulk(stage: Stage) -> dict[str, float]:
    """One producer that hands over many tasks at once."""
    return _enqueue(stage, "enqueue_bulk")


def _enqueue(stage: Stage, op: str, **request: int) -> dict[str, float]:
    producer = stage.child("producer")
    tasks, warm = stage.load.tasks, stage.load.warm_tasks
    producer.ask(op, stage.load.timeout, tasks=warm, **request)
    cpu, redis_cpu = producer.cpu_seconds(), stage.server.usage().cpu_seconds
    answer = producer.ask(op, stage.load.timeout, tasks=tasks, **request)
    figures = {"tasks_per_second": tasks / answer["seconds"], "tasks": float(tasks)}
    if cpu is not None and (cpu_after := producer.cpu_seconds()) is not None:
        figures["producer_cpu_us_per_task"] = (cpu_after - cpu) / tasks * 1e6
    figures["redis_cpu_us_per_task"] = (stage.server.usage().cpu_seconds - redis_cpu) / tasks * 1e6
    stage.drain(stage.child("worker"), warm + tasks)  # all tasks have arrived
    return figures


def drain_rtt(stage: Stage) -> dict[str, float]:
    """The same backlog twice: straight from Redis, and through a proxy that adds a network's round trip."""
    one_way = str(round(stage.load.round_trip_ms * 1000 / 2))
    command = (sys.executable, "-m", "bench.delay", str(stage.server.port), one_way)
    proxy = stage.stack.enter_context(PeerProcess("the delaying proxy", command, {"PYTHONPATH": str(CHECKOUT)}))
    port = proxy.expect("ready", START_SECONDS)["port"]
    producer = stage.child("producer")
    near, far = stage.child("worker"), stage.child("worker", url=f"redis://127.0.0.1:{port}/0")
    stage.warm(producer, near)
    # So many that it takes some seconds: few tasks would measure the start of a worker, not its pace.
    estimate = _rate(stage, producer, far, _LEAST_FAR)
    tasks = max(_LEAST_FAR, int(estimate * _FAR_SECONDS))
    # Straight from Redis before and after, so that a disturbance of either does not pass for the network's.
    before = _rate(stage, producer, near, tasks)
    began, cpu = time.monotonic(), proxy.cpu_seconds()
    rate = _rate(stage, producer, far, tasks)
    cpu_after, ended = proxy.cpu_seconds(), time.monotonic()
    without = (before + _rate(stage, producer, near, tasks)) / 2
    figures = {
        "tasks_per_second": rate,
        "tasks_per_second_without": without,
        "kept": rate / without * 100,
        "tasks": float(tasks),
        "round_trip": _round_trip_ms(port),
    }
    if cpu is not None and cpu_after is not None:
        figures["proxy_cpu"] = (cpu_after - cpu) / (ended - began) * 100
    return figures


def _rate(stage: Stage, producer: PeerProcess, worker: PeerProcess, tasks: int) -> float:
    stage.fill(producer, tasks)
    return tasks / stage.drain(worker, tasks)


def _round_trip_ms(port: int) -> float:
    with redis.Redis(port=port) as client:
        client.ping()
        took: list[float] = []
        for _ in range(_PINGS):
            began = time.perf_counter()
            client.ping()
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[_PINGS // 2]


def processes(stage: Stage) -> dict[str, float]:
    """The backlog of `drain`, and several worker processes."""
    producer = stage.child("producer")
    count, tasks = stage.load.processes, stage.load.tasks
    workers = [stage.child("worker") for _ in range(count)]
    for worker in workers:
        stage.warm(producer, worker)
    stage.fill(producer, tasks)
    for worker in workers:
        worker.send("work", tasks=tasks, slots=stage.load.slots, idle_ms=IDLE_MS)
    for worker in workers:
        worker.expect("consuming", START_SECONDS)
    answers = [worker.expect("done", stage.load.timeout) for worker in workers]
    ran = sum(answer["tasks"] for answer in answers)
    if ran != tasks:
        raise BenchError(f"{stage.label} ran {ran} tasks of {tasks}")
    busy = [answer for answer in answers if answer["tasks"]]
    began, ended = min(a["began_us"] for a in busy), max(a["ended_us"] for a in busy)
    most = max(answer["tasks"] for answer in answers)
    return {
        "tasks_per_second": tasks / (ended - began) * 1e6,
        "tasks": float(tasks),
        "largest_share": most / tasks * 100,
    }


def sleep(stage: Stage) -> dict[str, float]:
    """Tasks that wait for a second, in very many slots: how much of the slots' time is used."""
    producer, worker = stage.child("producer"), stage.child("worker")
    slots, tasks = stage.load.sleeping_slots, stage.load.sleepers
    stage.warm(producer, worker)
    producer.ask("enqueue", stage.load.timeout, tasks=tasks, producers=stage.load.producers, task="sleep", first=1.0)
    seconds = stage.drain(worker, tasks, slots=slots)
    return {
        "tasks_per_second": tasks / seconds,
        "slots_used": tasks / slots / seconds * 100,
        "tasks": float(tasks),
    }


def ceiling(stage: Stage) -> dict[str, float]:
    """Taskfleet, and beside it its bare Redis pattern: the same work in Redis, and nothing else in Python."""
    producer, worker = stage.child("producer"), stage.child("worker")
    tasks, warm = stage.load.tasks, stage.load.warm_tasks
    bare = bare_pattern(stage)
    stage.warm(producer, worker)
    bare.ask("drain", stage.load.timeout, tasks=warm, batch=stage.load.slots)
    with_engine = without = 0.0
    for _ in range(_CEILING_ROUNDS):  # in turn, so that a disturbance is shared
        stage.fill(producer, tasks)
        with_engine += stage.drain(worker, tasks)
        without += bare.ask("drain", stage.load.timeout, tasks=tasks, batch=stage.load.slots)["seconds"]
    ran = _CEILING_ROUNDS * tasks
    return {
        "tasks_per_second": ran / with_engine,
        "bare_tasks_per_second": ran / without,
        "of_bare": without / with_engine * 100,
        "tasks": float(ran),
    }


def bare_pattern(stage: Stage) -> PeerProcess:
    """The program of the bare Redis pattern, on the interpreter of the peer; its `drain` fills the queue, too."""
    program = (stage.program.command[0], str(Path(__file__).parent.parent / "ceiling" / "bare.py"))
    bare = stage.stack.enter_context(
        PeerProcess("the bare pattern", program, {"REDIS_URL": stage.server.url, "PYTHONPATH": str(CHECKOUT)})
    )
    bare.expect("ready", START_SECONDS)
    return bare
