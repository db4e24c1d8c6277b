"""A fleet that is well, idle, scaled to zero, or rolled out in good order: no alert fires, and none begins to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus.server import PrometheusServer
from tests.prometheus.test_live import scrapes
from tests.prometheus.test_trouble import on
from tests.support.ports import free_port
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until


@pytest.mark.timeout(600)
def test_no_alert_is_raised_by_a_fleet_that_is_well(
    fleet: RealFleet,
    nodes: ProcessNodes,
    operators: OperatorProcesses,
    prometheus: Callable[..., PrometheusServer],
    impatient: Path,
) -> None:
    metrics = free_port()
    operators.start("--metrics-port", str(metrics))
    scaler = {"minReplicas": 0, "maxReplicas": 2, "cooldownSeconds": 5}
    worker = {"processes": 2, "concurrency": 2}
    queues: Any = [{"name": "default", "leaseSeconds": 60, "targetLatencySeconds": 30}]
    fleet.apply(queues=queues, worker=worker, autoscaler={**scaler, "minReplicas": 1})
    pod = next(iter(until(fleet.ready, "a pod is ready")))
    labels = {"namespace": fleet.namespace, "pod": pod, "taskqueue": fleet.name}
    server = prometheus(scrapes(metrics, {f"127.0.0.1:{nodes.port(pod)}": labels}), (impatient,))

    def raised() -> set[str]:
        return {one["labels"]["alertname"] for one in server.get("alerts")["alerts"]}

    def raised_within(seconds: float) -> set[str]:
        """At any time of this; the rules are asked each second, without their waits."""
        end, found = time.monotonic() + seconds, set[str]()
        while time.monotonic() < end:
            found |= raised()
            time.sleep(0.3)
        return found

    until(lambda: server.query("taskfleet_queue_ready"), "there are figures")
    until(lambda: not raised(), "nothing is raised")
    assert raised_within(4) == set(), "idle"

    fleet.enqueue(range(100), seconds=0.05)
    assert raised_within(6) == set(), "busy"

    fleet.apply(queues=queues, worker=worker, autoscaler=scaler)
    until(lambda: not on(fleet, lambda queue: queue.workers()), "no worker is left")
    assert raised_within(6) == set(), "scaled to zero"

    fleet.enqueue(range(200, 300), seconds=0.2)
    until(fleet.ready, "a pod is ready")
    assert raised_within(4) <= {"TaskfleetNoWorker"}, "which waits for five minutes"
    until(lambda: not raised(), "there are workers")

    fleet.enqueue(range(400, 500), seconds=0.2)
    fleet.apply(queues=queues, worker={**worker, "concurrency": 3}, autoscaler={**scaler, "minReplicas": 1})
    assert raised_within(20) == set(), "rolled out in good order"
    assert on(fleet, lambda queue: queue.queue_stats("default")).failed_total == 0
