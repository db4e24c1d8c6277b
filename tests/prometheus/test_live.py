"""Every query of the dashboards and every alert, asked of a Prometheus that scrapes a fleet and its operator."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.prometheus.expressions import ALERTS, alerts, labels_of, metrics_of, panels, variables
from tests.prometheus.server import PrometheusServer, QueryError
from tests.support.ports import free_port
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

_SECONDS = 90.0


def scrapes(operator: int, workers: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """What the PodMonitors of the chart become: targets by address."""
    pods = [{"targets": [address], "labels": labels} for address, labels in workers.items()]
    return [
        {
            "job_name": "operator", "honor_labels": True,
            "static_configs": [
                {"targets": [f"127.0.0.1:{operator}"], "labels": {"pod": "operator-0", "namespace": "taskfleet-system"}}
            ],
        },
        {"job_name": "workers", "static_configs": pods},
    ]  # fmt: skip


def has_data(server: PrometheusServer, query: str) -> bool:
    return any(not math.isnan(value) for _, value in server.query(query))


@pytest.mark.timeout(600)
def test_every_panel_has_data_and_every_alert_is_evaluated(
    fleet: RealFleet,
    nodes: ProcessNodes,
    operators: OperatorProcesses,
    prometheus: Callable[..., PrometheusServer],
) -> None:
    metrics = free_port()
    operators.start("--metrics-port", str(metrics))
    fleet.apply(worker={"processes": 2, "concurrency": 2}, autoscaler={"minReplicas": 1, "maxReplicas": 1})
    pod = next(iter(until(fleet.ready, "a pod is ready")))
    fleet.enqueue(range(1500), seconds=0.2)  # it wants more workers than it may have, so that a rule limits it
    labels = {"namespace": fleet.namespace, "pod": pod, "taskqueue": fleet.name}
    server = prometheus(scrapes(metrics, {f"127.0.0.1:{nodes.port(pod)}": labels}), (ALERTS,))
    _feed(fleet)
    waiting = dict(panels())
    deadline = time.monotonic() + _SECONDS
    errors: dict[str, str] = {}
    while waiting and time.monotonic() < deadline:
        for where, query in list(waiting.items()):
            try:
                if has_data(server, query):
                    del waiting[where]
            except QueryError as error:
                errors[where] = str(error)
                del waiting[where]
        time.sleep(0.5)
    assert not errors
    assert not waiting, f"no data after {_SECONDS:.0f} s"
    for where, series, label in variables():
        assert server.get(f"label/{label}/values", **{"match[]": series}), where
    _labels_exist(server)
    _alerts_are_evaluated(server)
    up = {one["metric"]["job"]: one for one in server.get("query", query="up == 1")["result"]}
    assert up.keys() == {"operator", "workers"}


def _feed(fleet: RealFleet) -> None:
    """More tasks while Prometheus looks, so that rates are not those of the past."""

    def feed() -> None:
        for number in range(1500, 1600, 10):
            fleet.enqueue(range(number, number + 10), seconds=0.1)
            time.sleep(1.0)

    threading.Thread(target=feed, daemon=True).start()


def _labels_exist(server: PrometheusServer) -> None:
    """A query with a label that no series has is not refused: it selects nothing, or adds up too much."""
    queries = {name: rule["expr"] for name, rule in alerts().items()} | dict(panels())
    for where, query in queries.items():
        found = {metric: server.labels_of(metric) for metric in metrics_of(query)}
        assert not {metric for metric, labels in found.items() if not labels}, where
        known = {label for labels in found.values() for label in labels}
        assert labels_of(query) <= known, where


def _alerts_are_evaluated(server: PrometheusServer) -> None:
    def groups() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.get("rules")["groups"]
        return found

    until(lambda: all(rule["health"] != "unknown" for group in groups() for rule in group["rules"]), "all were tried")
    rules = {rule["name"]: rule for group in groups() for rule in group["rules"]}
    assert rules.keys() == alerts().keys()
    assert {name: rule.get("lastError", "") for name, rule in rules.items() if rule["health"] != "ok"} == {}
    firing = {name for name, rule in rules.items() if rule["state"] == "firing"}
    assert not firing, "the fleet is well"
