"""The backlog of `drain` on several interpreters: a worker on each, one after the other, in one run."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.package import pythons as interpreters

from bench.errors import BenchError
from bench.peers.taskfleet import program
from bench.scenarios.stage import Stage
from bench.scenarios.throughput import bare_pattern

VERSIONS = ("3.11", "3.13", "3.14")
"""The oldest that is supported, and the newest: from 3.12 on a worker starts its tasks eagerly."""

COLUMNS = {
    "tasks_per_second": "tasks/s",
    "of_bare": "of the bare pattern, %",
    "worker_us": "worker µs",
    "enqueue_bulk": "enqueue_bulk tasks/s",
}
"""The figures of each interpreter, and their titles: the rate, also beside that of the bare pattern on the same
interpreter; processor time per task; the rate of a bulk."""

_ROUNDS = 3


def metric(version: str, column: str) -> str:
    """The name of a figure: a version without its dot, which parts the name of a metric."""
    return f"python{version.replace('.', '')}.{column}"


UNITS = {metric(version, column): title.split()[-1] for version in VERSIONS for column, title in COLUMNS.items()}


def pythons(stage: Stage) -> dict[str, float]:
    """The figures of each interpreter that is to be had here."""
    found = {version: path for version in VERSIONS if isinstance(path := interpreters.find(version), Path)}
    if not found:
        raise BenchError(f"none of Python {', '.join(VERSIONS)} is to be had here")
    pairs = {version: _Pair(stage, path) for version, path in found.items()}
    for _ in range(_ROUNDS):  # in turn, so that a disturbance is shared
        for pair in pairs.values():
            pair.round()
    figures = {
        metric(version, column): value for version, pair in pairs.items() for column, value in pair.figures().items()
    }
    return figures | {"tasks": float(_ROUNDS * stage.load.tasks)}


class _Pair:
    """Producer and worker on one interpreter."""

    def __init__(self, stage: Stage, python: Path) -> None:
        own = program(python)
        self._stage = Stage(own, stage.label, stage.server, stage.load, stage.stack)
        self._producer, self._worker = self._stage.child("producer"), self._stage.child("worker")
        self._stage.warm(self._producer, self._worker)
        self._bare = bare_pattern(self._stage)
        self._bare.ask("drain", stage.load.timeout, tasks=stage.load.warm_tasks, batch=stage.load.slots)
        self._rates: list[float] = []
        self._shares: list[float] = []
        self._costs: list[float] = []
        self._bulks: list[float] = []

    def round(self) -> None:
        tasks, timeout = self._stage.load.tasks, self._stage.load.timeout
        sent = self._producer.ask("enqueue_bulk", timeout, tasks=tasks)
        self._bulks.append(tasks / sent["seconds"])
        before = self._worker.cpu_seconds() or 0.0
        took = self._stage.drain(self._worker, tasks)
        self._rates.append(tasks / took)
        self._costs.append(((self._worker.cpu_seconds() or 0.0) - before) / tasks * 1e6)
        bare = self._bare.ask("drain", timeout, tasks=tasks, batch=self._stage.load.slots)
        self._shares.append(bare["seconds"] / took * 100)

    def figures(self) -> dict[str, float]:
        values = (self._rates, self._shares, self._costs, self._bulks)
        return {column: median(runs) for column, runs in zip(COLUMNS, values, strict=True)}
