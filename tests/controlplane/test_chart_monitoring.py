"""What the chart brings for Prometheus and Grafana: all of it off, until a value asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster.kubectl import ClusterCommand, CommandError

from tests.controlplane.test_chart import CHART, helm, objects, render  # noqa: F401 - a fixture

FILES = Path(CHART) / "files"
EVERYTHING: dict[str, Any] = {
    "metrics": {
        "podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "monitoring"}},
        "workerPodMonitor": {"enabled": True},
        "rules": {"enabled": True, "labels": {"release": "monitoring"}, "alertLabels": {"team": "shop"}},
        "dashboards": {"enabled": True, "annotations": {"folder": "Taskfleet"}},
    }
}


def of_kind(manifest: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in objects(manifest) if one["kind"] == kind]


def alerts_in(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in found["groups"] for rule in group["rules"]}


def test_nothing_of_it_is_there_by_default(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    kinds = {one["kind"] for one in objects(render(helm, namespace))}
    assert kinds.isdisjoint({"PodMonitor", "PrometheusRule", "ConfigMap", "ServiceMonitor"})


def test_the_rules_are_those_of_the_file(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    (rule,) = of_kind(render(helm, namespace, EVERYTHING), "PrometheusRule")
    found, written = alerts_in(rule["spec"]), alerts_in(yaml.safe_load((FILES / "alerts.yaml").read_text()))
    assert found.keys() == written.keys()
    for name, one in written.items():
        assert found[name] == one | {"labels": one["labels"] | {"team": "shop"}}
    assert rule["metadata"]["labels"]["release"] == "monitoring"


def test_an_alert_can_be_left_out_and_a_wrong_name_is_an_error(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    rules = {"enabled": True, "disabled": ["TaskfleetNoWorker"]}
    (rule,) = of_kind(render(helm, namespace, {"metrics": {"rules": rules}}), "PrometheusRule")
    assert "TaskfleetNoWorker" not in alerts_in(rule["spec"])
    assert "TaskfleetRedisUnreachable" in alerts_in(rule["spec"])
    with pytest.raises(CommandError, match="there is no alert Nothing"):
        render(helm, namespace, {"metrics": {"rules": {"enabled": True, "disabled": ["Nothing"]}}})


def test_monitors_select_the_pods_by_their_ports(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    values = EVERYTHING | {"watch": {"namespaces": ["shop", "mail"]}}
    rendered = render(helm, namespace, values)
    operator, workers = sorted(of_kind(rendered, "PodMonitor"), key=lambda one: len(one["metadata"]["name"]))
    (deployment,) = of_kind(rendered, "Deployment")
    template = deployment["spec"]["template"]
    (endpoint,) = operator["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "metrics", "interval": "15s", "honorLabels": True}
    assert endpoint["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    assert operator["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert operator["metadata"]["labels"]["release"] == "monitoring"
    assert workers["spec"]["namespaceSelector"] == {"matchNames": ["shop", "mail"]}
    (endpoint,) = workers["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("probes", "/metrics")


def test_a_monitor_finds_the_pods_of_a_taskqueue(helm: ClusterCommand, namespace: str) -> None:  # noqa: F811
    from taskfleet_operator.children import children_of
    from taskfleet_operator.resource.taskqueue import TaskQueueResource
    from tests.support.manifests import GOOD

    children = children_of(TaskQueueResource.model_validate(GOOD))
    template = next(one for one in children if one["kind"] == "Deployment")["spec"]["template"]
    workers = next(
        one
        for one in of_kind(render(helm, namespace, EVERYTHING), "PodMonitor")
        if one["metadata"]["name"].endswith("-workers")
    )
    assert workers["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert "probes" in [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    assert template["metadata"]["labels"]["app.kubernetes.io/instance"] == GOOD["metadata"]["name"]


def test_dashboards_are_config_maps_that_the_sidecar_finds(
    helm: ClusterCommand,  # noqa: F811
    kubectl: ClusterCommand,
    namespace: str,
) -> None:
    maps = of_kind(render(helm, namespace, EVERYTHING), "ConfigMap")
    assert len(maps) == len(list((FILES / "dashboards").glob("*.json"))) == 3
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"folder": "Taskfleet"}
        ((name, text),) = one["data"].items()
        assert json.loads(text) == json.loads((FILES / "dashboards" / name).read_text())
    kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": maps})
    )


@pytest.mark.parametrize(
    "metrics",
    [
        {"podMonitor": {"enabled": "yes"}},
        {"rules": {"enabled": True, "labels": {"a": 1}}},
        {"dashboards": {"namespace": "Not A Name"}},
        {"podmonitor": {"enabled": True}},
    ],
)
def test_a_wrong_value_is_refused(helm: ClusterCommand, namespace: str, metrics: dict[str, Any]) -> None:  # noqa: F811
    with pytest.raises(CommandError, match="values don't meet the specifications"):
        render(helm, namespace, {"metrics": metrics})
