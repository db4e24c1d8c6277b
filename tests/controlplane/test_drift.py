"""Drift on a real API server: exact in the fields that are ours, and nobody is fought."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from taskfleet_operator.children import KINDS
from taskfleet_operator.control.reconciling.drift import is_exact
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.operator_space import CHILDREN, NAME, Manifest, Space, settled, told, until


def container(space: Space) -> dict[str, Any]:
    found: dict[str, Any] = space.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0]
    return found


def patch(space: Space, kind: str, *operations: dict[str, Any]) -> None:
    space("patch", kind, NAME, "--type=json", "--field-manager=somebody", "-p", json.dumps(operations))


def test_what_is_added_to_a_value_of_ours_is_put_back(operator: object, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    args = container(space)["args"]
    root = "/spec/template/spec/containers/0"
    patch(space, "deployment", {"op": "add", "path": f"{root}/args/-", "value": "--burst"})
    until(lambda: container(space)["args"] == args, "the argument is gone")
    selector = space.get("service", NAME)["spec"]["selector"]
    patch(space, "service", {"op": "add", "path": "/spec/selector/tier", "value": "other"})
    until(lambda: space.get("service", NAME)["spec"]["selector"] == selector, "the selector is ours")
    patch(space, "poddisruptionbudget", {"op": "add", "path": "/spec/selector/matchLabels/tier", "value": "other"})
    until(
        lambda: "tier" not in space.get("poddisruptionbudget", NAME)["spec"]["selector"]["matchLabels"],
        "the budget covers the workers again",
    )
    drop = [{"op": "add", "path": f"{root}/securityContext/capabilities/drop", "value": []}]
    patch(space, "deployment", *drop)
    until(lambda: container(space)["securityContext"]["capabilities"].get("drop") == ["ALL"], "none is left")
    label = {"op": "replace", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "somebody"}
    patch(space, "configmap", label)
    until(
        lambda: space.get("configmap", NAME)["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "somebody",
        "the label is back",
    )


def test_what_another_manager_adds_stays(operator: object, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    root = "/spec/template/spec/containers/0"
    theirs = {"name": "THEIRS", "value": "1"}
    patch(space, "deployment", {"op": "add", "path": f"{root}/env/-", "value": theirs})
    space("rollout", "restart", f"deployment/{NAME}")
    space("label", "configmap", NAME, "gitops.example.com/instance=shop")
    space("annotate", "service", NAME, "example.com/owner=shop")
    # A correction shows that the operator has looked at the Deployment after those writes.
    patch(space, "deployment", {"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 9})
    until(lambda: space.get("deployment", NAME)["spec"]["revisionHistoryLimit"] == 3, "ours is put back")
    assert theirs in container(space)["env"]
    annotations = space.get("deployment", NAME)["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations
    assert space.get("configmap", NAME)["metadata"]["labels"]["gitops.example.com/instance"] == "shop"
    assert space.get("service", NAME)["metadata"]["annotations"]["example.com/owner"] == "shop"


def test_a_program_that_insists_is_named_and_not_fought(operator: object, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")

    def quarrel() -> bool:
        if space.get("deployment", NAME)["spec"]["revisionHistoryLimit"] == 3:
            patch(space, "deployment", {"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 9})
        return space.condition("Reconciled").get("reason") == "DriftNotCorrected"

    until(quarrel, "it is given up", seconds=60)
    message = told(space, "Reconciled", "DriftNotCorrected")
    assert f"Deployment '{NAME}': spec.revisionHistoryLimit was put back 5 times" in message
    assert "'somebody'" in message
    assert space.get("deployment", NAME)["spec"]["revisionHistoryLimit"] == 9
    patch(space, "deployment", {"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 3})
    until(lambda: space.condition("Reconciled").get("status") == "True", "the quarrel is over")


@pytest.mark.parametrize("redis", [{}, {"auth": {"username": "worker"}}])
def test_a_fresh_child_is_seen_to_be_exact_without_a_dry_run(
    operator: object, space: Space, manifest: Manifest, redis: dict[str, Any]
) -> None:
    manifest["spec"]["redis"] |= redis
    manifest["spec"]["worker"]["template"] = {
        "spec": {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "containers": [{"name": "worker", "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}}],
        }
    }
    space.apply(manifest)
    until(lambda: space.status().get("observedGeneration"), "it is applied")
    queue = TaskQueueResource.model_validate(
        {name: value for name, value in space.get("tq", "orders").items() if name in ("metadata", "spec")}
    )
    for kind, plural in zip(KINDS, CHILDREN, strict=True):
        wanted, live = kind.build(queue, {}), space.get(plural, NAME)
        assert wanted is not None
        assert is_exact(wanted, live), plural
        other = copy.deepcopy(wanted)
        other["metadata"]["labels"]["app.kubernetes.io/component"] = "another"
        assert not is_exact(other, live)
