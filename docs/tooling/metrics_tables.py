"""The tables of docs/reference/metrics.md, from the collectors that answer a scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric
from tests.support.operator_figures import collector

from taskfleet import TaskQueue
from taskfleet.fleet_metrics import FleetCollector, Readings
from taskfleet.process.metrics import WorkerCollector
from taskfleet.redis.permission import CommandCount
from taskfleet.runtime.worker import Worker
from taskfleet_dashboard.changing.audit import Audit
from taskfleet_dashboard.changing.jobs import Jobs
from taskfleet_dashboard.events.hub import Hub
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.metrics.collector import DashboardCollector, OwnFigures
from taskfleet_dashboard.metrics.requests import RequestFigures


def of_the_worker() -> str:
    return _table(WorkerCollector.of(Worker(TaskQueue("memory://reference"))).collect())


def of_the_operator() -> str:
    return _table(one for one in collector().collect() if one.name.startswith("taskfleet_operator_"))


def of_the_queues() -> str:
    return _table(FleetCollector(Readings).collect())


def of_the_dashboard() -> str:
    pace = ReadingPace(1)
    own = OwnFigures(RequestFigures(), Hub(pace, {}), pace, Jobs(Audit()), CommandCount(), lambda: 0)
    return _table(DashboardCollector(own).collect())


def _table(families: Iterable[Metric]) -> str:
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *_rows(families)])


def _rows(families: Iterable[Any]) -> Iterator[str]:
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family._labelnames if label != "le")
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"
