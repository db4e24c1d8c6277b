"""The tables of the page about performance, by the names that the page has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import report
from bench.figures import Figure, number
from bench.peers import PEERS
from bench.targets import OURS, verdicts

_NONE = "-"


@dataclass(frozen=True, slots=True)
class _Cell:
    """One figure, and what it is called."""

    title: str
    scenario: str
    metric: str


_PEERS = (
    _Cell("drain/s", "drain", "tasks_per_second"),
    _Cell("worker µs", "drain", "worker_cpu_us_per_task"),
    _Cell("Redis µs", "drain", "redis_cpu_us_per_task"),
    _Cell("round trips", "commands", "round_trips_per_task"),
    _Cell("commands", "commands", "commands_per_task"),
    _Cell("enqueue/s", "enqueue", "tasks_per_second"),
    _Cell("bulk/s", "enqueue_bulk", "tasks_per_second"),
    _Cell("pick-up p50, ms", "latency", "p50"),
    _Cell("p99", "latency", "p99"),
    _Cell("result p50, ms", "result", "p50"),
    _Cell("bytes", "memory", "bytes_per_waiting_task"),
    _Cell("idle MB", "memory", "worker_idle_mb"),
)
_SOME = (
    _Cell("drain at 2 ms round trip, tasks/s", "drain_rtt", "tasks_per_second"),
    _Cell("… of that without, %", "drain_rtt", "kept"),
    _Cell("four processes, tasks/s", "processes", "tasks_per_second"),
    _Cell("sleep(1), 1,000 slots: slots used, %", "sleep", "slots_used"),
    _Cell("10,000 due in one second: late p50, ms", "delayed", "p50"),
    _Cell("… p99, ms", "delayed", "p99"),
    _Cell("… the earliest (negative is early), ms", "delayed", "earliest"),
    _Cell("fairness: p99 of the small keys, ms", "fairness", "small_p99_fair"),
    _Cell("… first in first out, ms", "fairness", "small_p99_fifo"),
    _Cell("kill -9: all that it held runs again, s", "kill9", "recovery"),
    _Cell("claim, few waiting, p99, µs", "million", "claim_p99_few"),
    _Cell("… very many, p99, µs", "million", "claim_p99_many"),
    _Cell("a bare LPUSH and BLPOP in Python, p50, ms", "hop", "p50"),
    _Cell("the bare script pattern, tasks/s", "ceiling", "bare_tasks_per_second"),
    _Cell("… reached by the engine, %", "ceiling", "of_bare"),
    _Cell("`taskfleet worker`, idle, MB", "footprint", "worker_mb"),
    _Cell("… with four processes, MB", "footprint", "workers_mb"),
    _Cell("`taskfleet operator`, idle, MB", "footprint", "operator_mb"),
)
_SHORT = (
    _Cell("drain, tasks/s", "drain", "tasks_per_second"),
    _Cell("drain with 2 ms to Redis, tasks/s", "drain_rtt", "tasks_per_second"),
    _Cell("enqueue, 50 producers, tasks/s", "enqueue", "tasks_per_second"),
    _Cell("enqueue in bulk, tasks/s", "enqueue_bulk", "tasks_per_second"),
    _Cell("processor time of the worker per task, µs", "drain", "worker_cpu_us_per_task"),
    _Cell("processor time of Redis per task, µs", "drain", "redis_cpu_us_per_task"),
    _Cell("from enqueue to the task when idle, p50, ms", "latency", "p50"),
    _Cell("from enqueue to its result when idle, p50, ms", "result", "p50"),
    _Cell("bytes in Redis per waiting task", "memory", "bytes_per_waiting_task"),
)
_FASTEST = (OURS, "bullmq", "asynq")
_BEST_KNOWN = (OURS, "bullmq", "asynq", "dramatiq", "rust-task-queue")


def tables(machine: Mapping[str, Any], figures: Sequence[Figure]) -> dict[str, str]:
    """Name → Markdown, of all that the figures fill."""
    python = [peer.name for peer in PEERS.values() if peer.python]
    judged = verdicts([figure for figure in figures if not figure.scenario.startswith("grow_")], python)
    found = {
        "machine": _machine(machine, figures),
        "peers": _by_peer(figures),
        "some": _by_figure(figures, _SOME, _FASTEST),
        "short": _by_figure(figures, _SHORT, _BEST_KNOWN),
        "features": report.feature_table(figures),
        "pythons": report.python_table(figures),
        "holding": _longest(figures),
        "targets": report.target_table(judged) if judged else "",
    }
    return {name: text for name, text in found.items() if text}


def _machine(machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    runs = max((len(figure.runs) for figure in figures), default=0)
    repeats = "each figure once" if runs == 1 else f"the median of up to {runs} runs"
    version = next((figure.version for figure in figures if figure.peer == OURS), "")
    return (
        f"{machine['date']}, {repeats}; Taskfleet {version} on CPython {machine['python']} with uvloop, "
        f"{machine['redis']}, {machine['cores']} cores of {machine['cpu']}. Slow peers run a part of the tasks."
    )


def _medians(figures: Sequence[Figure]) -> Mapping[tuple[str, str, str], float]:
    return {(figure.peer, figure.scenario, figure.metric): figure.median for figure in figures}


def _by_peer(figures: Sequence[Figure]) -> str:
    """A line for each queue, the fastest first."""
    medians = _medians(figures)
    versions = {figure.peer: figure.version for figure in figures}
    rate = _PEERS[0]
    order = sorted(versions, key=lambda peer: -medians.get((peer, rate.scenario, rate.metric), 0.0))
    rows = [
        (f"{peer} {versions[peer]}", *(_told(medians.get((peer, cell.scenario, cell.metric))) for cell in _PEERS))
        for peer in order
    ]
    return report.markdown(("", *(cell.title for cell in _PEERS)), rows, right=range(1, len(_PEERS) + 1))


def _by_figure(figures: Sequence[Figure], cells: Sequence[_Cell], peers: Sequence[str]) -> str:
    """A line for each of these figures that any of these queues has."""
    medians = _medians(figures)
    rows: list[Sequence[str]] = []
    for cell in cells:
        values = [medians.get((peer, cell.scenario, cell.metric)) for peer in peers]
        if any(value is not None for value in values):
            rows.append((cell.title, *map(_told, values)))
    return report.markdown(("", *peers), rows, right=range(1, len(peers) + 1)) if rows else ""


_OPERATIONS = {
    "claim_large": "256 tasks of 1 MB are claimed and end",
    "chord": "the last of very many members of a chord ends",
    "dependants": "a task that very many wait for is cancelled",
    "enqueue": "very many tasks are enqueued",
    "purge": "a queue with very many tasks is purged",
    "fail": "very many tasks fail for good",
    "requeue": "very many dead letters are sent again",
    "due": "very many delayed tasks become due at once",
    "leases": "very many leases of a lost worker are taken over",
    "plain_hdel": "256 values of 1 MB are removed from a plain hash, without Taskfleet",
    "views": "the figures of a full queue, and the state of a task, are read",
}


def _longest(figures: Sequence[Figure]) -> str:
    """The longest script call of each operation at its largest, the longest first."""
    calls = {f.metric: f.median for f in figures if f.scenario == "holding" and f.metric not in ("tasks", "longest")}
    rows = [(_OPERATIONS[name], number(calls[name])) for name in sorted(calls, key=lambda name: -calls[name])]
    return report.markdown(("", "longest call, ms"), rows, right=(1,)) if rows else ""


def _told(value: float | None) -> str:
    return _NONE if value is None else number(value)
