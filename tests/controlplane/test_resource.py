"""The API server itself refuses bad manifests, with the operator down."""

from __future__ import annotations

import copy
import json

import pytest
from e2e.cluster.kubectl import ClusterCommand, CommandError

from tests.support.manifests import CASES, GOOD, Case, changed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rule_refuses_and_allows(case: Case, crd: None, kubectl: ClusterCommand, namespace: str) -> None:
    def apply(manifest: dict[str, object]) -> None:
        kubectl("apply", "--dry-run=server", "--namespace", namespace, "-f", "-", stdin=json.dumps(manifest))

    with pytest.raises(CommandError) as caught:
        apply(changed(case.bad))
    assert case.says in str(caught.value) or "Duplicate value" in str(caught.value)
    apply(changed(case.good))


def test_every_field_has_its_default(crd: None, kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(GOOD))
    spec = kubectl.json("get", "tq", "orders", "--namespace", namespace)["spec"]
    assert spec["autoscaler"]["behavior"]["scaleUp"]["policies"][0] == {
        "type": "Percent",
        "value": 100,
        "periodSeconds": 15,
    }
    assert spec["autoscaler"]["threshold"]["scaleUpThreshold"] == "5.0"
    assert spec["queues"][0]["deadLetter"] == {"maxLength": 10000, "ttlSeconds": 1209600}
    assert (spec["deletionPolicy"], spec["redis"]["keyPrefix"], spec["worker"]["concurrency"]) == (
        "Retain",
        "taskfleet",
        16,
    )
    assert spec["worker"]["podDisruptionBudget"] == {"mode": "Enabled", "maxUnavailable": 1}


def test_the_key_prefix_cannot_be_changed(crd: None, kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(GOOD))
    moved = copy.deepcopy(GOOD)
    moved["spec"]["redis"]["keyPrefix"] = "other"
    with pytest.raises(CommandError, match="keyPrefix cannot be changed"):
        kubectl("apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(moved))


def test_an_unknown_field_is_refused(crd: None, kubectl: ClusterCommand, namespace: str) -> None:
    with pytest.raises(CommandError, match="unknown field"):
        kubectl(
            "apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(changed({"spec.autoscaler.minReplica": 1}))
        )


def test_scale_subresource_short_name_and_category(crd: None, kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("apply", "--namespace", namespace, "-f", "-", stdin=json.dumps(GOOD))
    kubectl("scale", "tq/orders", "--namespace", namespace, "--replicas=3")
    assert kubectl.json("get", "tq", "orders", "--namespace", namespace)["spec"]["replicas"] == 3
    assert "taskqueue.taskfleet.io/orders" in kubectl("get", "taskfleet", "--namespace", namespace, "-o", "name")
    head = kubectl("get", "tq", "--namespace", namespace, "-o", "wide").splitlines()[0].split()
    assert head == [
        "NAME", "READY", "DESIRED", "REPLICAS", "BACKLOG", "MIN", "MAX", "MODE", "AGE", "INFLIGHT", "OLDEST", "DEAD",
        "REDIS", "SCALING", "IMAGE",
    ]  # fmt: skip
