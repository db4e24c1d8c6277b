"""docs/reference/metrics.md lists the metrics of a worker, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from taskfleet import TaskQueue
from taskfleet.process.metrics import WorkerCollector
from taskfleet.runtime.worker import Worker

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


async def test_the_page_lists_every_metric_with_its_type() -> None:
    families = WorkerCollector.of(Worker(TaskQueue("memory://"))).collect()
    metrics = {(family.name + ("_total" if family.type == "counter" else ""), family.type) for family in families}
    assert set(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == metrics
