"""docs/reference/metrics.md lists the metrics of a worker, of the operator and of the dashboard, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from docs.tooling import metrics_tables
from prometheus_client.core import Metric

from taskfleet import TaskQueue
from taskfleet.process.metrics import WorkerCollector
from taskfleet.runtime.worker import Worker
from tests.support.operator_figures import collector

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def listed(page: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))


def metrics(families: Iterable[Metric]) -> set[tuple[str, str]]:
    return {(family.name + ("_total" if family.type == "counter" else ""), family.type) for family in families}


async def test_the_page_lists_every_metric_with_its_type() -> None:
    workers, rest = PAGE.read_text(encoding="utf-8").split("## Queues, fleets and Redis")
    operator, dashboard = rest.split("## The dashboard")
    assert listed(workers) == metrics(WorkerCollector.of(Worker(TaskQueue("memory://"))).collect())
    assert listed(operator) == metrics(collector().collect())
    assert listed(dashboard) == listed(metrics_tables.of_the_dashboard())
