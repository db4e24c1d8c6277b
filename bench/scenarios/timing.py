"""How late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.children import PeerProcess
from bench.errors import BenchError
from bench.figures import percentile
from bench.peer import CHECKOUT
from bench.scenarios.stage import START_SECONDS, Stage, pause

_WARM = 10
_INTERVAL_MS = 100
_IDLE_SECONDS = 1.0
_SPREAD_MS = 1000
_LEAD_MS = 3000
_ROUNDS = 20
_SMALL_KEYS, _SMALL_TASKS = 9, 100


def latency(stage: Stage) -> dict[str, float]:
    """An idle worker and a task every 100 ms: from the call of enqueue to the first line of the task."""
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.warm(producer, worker)
    tasks = stage.load.latency_tasks + _WARM
    stage.begin_work(worker, tasks)
    pause(_IDLE_SECONDS)
    producer.ask("enqueue_paced", stage.load.timeout, tasks=tasks, interval_ms=_INTERVAL_MS)
    done = stage.end_work(worker, tasks)
    return _milliseconds(done["latencies_us"][_WARM:]) | {"tasks": float(stage.load.latency_tasks)}


def result(stage: Stage) -> dict[str, float]:
    """An idle worker and a call every 100 ms: from the call of enqueue until the caller has the result."""
    producer, worker = (stage.child(role, BENCH_RESULTS="1") for role in ("producer", "worker"))
    stage.warm(producer, worker)
    tasks = stage.load.latency_tasks + _WARM
    stage.begin_work(worker, tasks + 1)
    pause(_IDLE_SECONDS)
    done = producer.ask("call_paced", stage.load.timeout, tasks=tasks, interval_ms=_INTERVAL_MS)
    # One more, whose result nobody waits for: a worker that stops after its last task may not have recorded it.
    stage.fill(producer, 1)
    stage.end_work(worker, tasks + 1)
    return _milliseconds(done["latencies_us"][_WARM:]) | {"tasks": float(stage.load.latency_tasks)}


def hop(stage: Stage) -> dict[str, float]:
    """The same pace through a bare list of Redis, from one Python process to another: the floor of `latency`."""
    program = (stage.program.command[0], str(Path(__file__).parent.parent / "ceiling" / "hop.py"))
    environment = {"REDIS_URL": stage.server.url, "PYTHONPATH": str(CHECKOUT)}
    sender, receiver = (
        stage.stack.enter_context(PeerProcess(f"the {role} of bare elements", program, environment))
        for role in ("sender", "receiver")
    )
    for process in (sender, receiver):
        process.expect("ready", START_SECONDS)
    tasks = stage.load.latency_tasks + _WARM
    stage.begin_work(receiver, tasks)
    pause(_IDLE_SECONDS)
    sender.ask("push", stage.load.timeout, tasks=tasks, interval_ms=_INTERVAL_MS)
    done = stage.end_work(receiver, tasks)
    return _milliseconds(done["latencies_us"][_WARM:]) | {"tasks": float(stage.load.latency_tasks)}


def delayed(stage: Stage) -> dict[str, float]:
    """Delayed tasks that become due one after the other within a second: how late each starts. Negative is early."""
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.warm(producer, worker)
    tasks = min(stage.load.delayed_tasks, stage.load.tasks)
    stage.begin_work(worker, tasks)
    sent = producer.ask(
        "enqueue_delayed",
        stage.load.timeout,
        tasks=tasks,
        producers=stage.load.producers,
        lead_ms=_LEAD_MS,
        spread_ms=_SPREAD_MS,
    )
    if sent["spare_ms"] < 0:
        raise BenchError(f"{stage.label} was still enqueueing when the first of {tasks} tasks was due")
    late = stage.end_work(worker, tasks)["latencies_us"]
    return _milliseconds(late) | {"earliest": min(late) / 1000, "tasks": float(tasks)}


def million(stage: Stage) -> dict[str, float]:
    """Whether claiming from a million waiting tasks takes longer than from a thousand.

    Rounds of a thousand tasks, with nothing else waiting and then with a million behind them. The latency is that of
    the script calls inside Redis, enqueueing left out; a worker with one slot, so that each call claims few.
    """
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.warm(producer, worker)
    few, many = stage.load.few, stage.load.many
    figures: dict[str, float] = {"tasks": float(many)}
    for name, standing in (("few", 0), ("many", many)):
        _send(stage, producer, standing)
        samples: list[tuple[float, float]] = []
        for _ in range(_ROUNDS):
            _send(stage, producer, few)
            stage.server.reset_statistics()
            stage.begin_work(worker, few, slots=1)
            stage.end_work(worker, few)
            samples.append(stage.server.script_microseconds())
        # Each round has its percentile; the median of the rounds is not moved by one in which the machine was busy.
        figures[f"claim_p50_{name}"] = percentile([p50 for p50, _ in samples], 50)
        figures[f"claim_p99_{name}"] = percentile([p99 for _, p99 in samples], 50)
    figures["claim_p99_ratio"] = figures["claim_p99_many"] / figures["claim_p99_few"]
    return figures


def _send(stage: Stage, producer: Any, tasks: int) -> None:
    if tasks == 0:
        return
    try:
        producer.ask("enqueue_bulk", stage.load.timeout, tasks=tasks)
    except BenchError:
        stage.fill(producer, tasks)


def fairness(stage: Stage) -> dict[str, float]:
    """One key with very many tasks, then nine with a hundred each: when the last of the small are served.

    Beside it the same tasks without keys, first in first out.
    """
    producer, worker = stage.child("producer"), stage.child("worker")
    stage.warm(producer, worker)
    figures: dict[str, float] = {"tasks": float(stage.load.busy_key_tasks)}
    for name, prefix in (("fifo", ""), ("fair", "key-")):
        # `at` is 1 µs for the small, so that their latency is the moment at which each started.
        keys: list[tuple[str, int, float]] = [(prefix and f"{prefix}big", stage.load.busy_key_tasks, 0.0)]
        keys += [(prefix and f"{prefix}{i}", _SMALL_TASKS, 1.0) for i in range(_SMALL_KEYS)]
        total = sum(tasks for _, tasks, _ in keys)
        producer.ask("enqueue_keyed", stage.load.timeout, keys=keys)
        stage.begin_work(worker, total)
        done = stage.end_work(worker, total)
        waits = [(moment + 1 - done["began_us"]) / 1000 for moment in done["latencies_us"]]
        figures[f"small_p99_{name}"] = percentile(waits, 99)
        figures[f"tasks_per_second_{name}"] = total / done["seconds"]
    return figures


def _milliseconds(latencies_us: list[float]) -> dict[str, float]:
    values = [value / 1000 for value in latencies_us]
    return {"p50": percentile(values, 50), "p99": percentile(values, 99), "max": max(values)}
