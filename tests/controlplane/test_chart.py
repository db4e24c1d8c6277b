"""The Helm chart, against a real API server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import binaries
from e2e.cluster.kubectl import ClusterCommand, CommandError

CHART = str(Path(__file__).parents[2] / "helm" / "taskfleet")
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}


@pytest.fixture(scope="session")
def helm(control_plane: Path) -> ClusterCommand:
    """`helm("template", …)`, as `kubectl`."""
    return ClusterCommand(binaries.ensure("helm")["helm"], control_plane)


@pytest.fixture
def second_namespace(kubectl: ClusterCommand, namespace: str) -> Iterator[str]:
    name = f"{namespace}-b"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def render(helm: ClusterCommand, namespace: str, values: dict[str, Any] | None = None) -> str:
    return helm("template", "tf", CHART, "--namespace", namespace, "--values", "-", stdin=json.dumps(values or {}))


def objects(manifest: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(manifest) if document]


def deployment(manifest: str) -> dict[str, Any]:
    return next(item for item in objects(manifest) if item["kind"] == "Deployment")


def can(kubectl: ClusterCommand, account_namespace: str, target: str, verb: str, resource: str) -> bool:
    """Whether the operator of one namespace may do it in another; `resource` is `GROUP/RESOURCE[/SUBRESOURCE]`."""
    group, name, subresource = (resource + "/").split("/")[:3]
    asked = {"namespace": target, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": f"system:serviceaccount:{account_namespace}:tf-taskfleet", "resourceAttributes": asked},
    }
    answer = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def wait_until_granted(kubectl: ClusterCommand, account_namespace: str, target: str, verb: str, resource: str) -> None:
    """Wait until the authorizer knows a new role, a moment after it is written."""
    deadline = time.monotonic() + 10
    while not can(kubectl, account_namespace, target, verb, resource):
        assert time.monotonic() < deadline, f"{verb} {resource} is not granted in {target}"
        time.sleep(0.05)


def test_lint_has_nothing_to_say(helm: ClusterCommand) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


def test_the_api_server_takes_it_with_its_defaults(
    helm: ClusterCommand, kubectl: ClusterCommand, namespace: str
) -> None:
    applied = kubectl("apply", "--dry-run=server", "-f", "-", stdin=render(helm, namespace))
    assert f"clusterrole.rbac.authorization.k8s.io/{namespace}:tf-taskfleet" in applied
    assert "deployment.apps/tf-taskfleet" in applied


def test_the_api_server_takes_it_with_every_value_set(
    helm: ClusterCommand, kubectl: ClusterCommand, namespace: str
) -> None:
    values = {
        "replicas": 0,
        "image": {"repository": "registry.example:5000/taskfleet-operator", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"create": True, "name": "fleet", "annotations": {"example.com/role": "x"}},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "extraArgs": ["--log-level", "DEBUG"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "podAnnotations": {"example.com/scrape": "true"},
        "podLabels": {"team": "shop", "app.kubernetes.io/name": "not-this"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "tf"}},
            }
        ],
        "priorityClassName": "system-cluster-critical",
        "fullnameOverride": "fleet",
    }
    applied = kubectl("apply", "--dry-run=server", "-f", "-", stdin=render(helm, namespace, values))
    for name in ("serviceaccount/fleet", "poddisruptionbudget.policy/fleet", "deployment.apps/fleet"):
        assert name in applied


def test_a_restricted_namespace_takes_it_without_a_warning(
    helm: ClusterCommand, kubectl: ClusterCommand, namespace: str
) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    kubectl(
        "apply", "--dry-run=server", "--warnings-as-errors", "-f", "-",
        stdin=render(helm, namespace, {"crds": {"install": False}}),
    )  # fmt: skip


def test_the_definition_is_kept_and_complete(helm: ClusterCommand, namespace: str) -> None:
    crd = next(item for item in objects(render(helm, namespace)) if item["kind"] == "CustomResourceDefinition")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    generated = yaml.safe_load((Path(CHART).parents[1] / "crds" / "taskqueue.yaml").read_text())
    assert crd["spec"] == generated["spec"]
    without = render(helm, namespace, {"crds": {"install": False}})
    assert not any(item["kind"] == "CustomResourceDefinition" for item in objects(without))


def test_the_definition_survives_the_release(helm: ClusterCommand, kubectl: ClusterCommand, namespace: str) -> None:
    # There are no nodes, so the test does not wait for pods.
    helm("install", "tf", CHART, "--namespace", namespace, "--take-ownership")
    try:
        assert kubectl.json("get", "deployment", "tf-taskfleet", "--namespace", namespace)["spec"]["replicas"] == 1
    finally:
        helm("uninstall", "tf", "--namespace", namespace)
    kubectl("get", "crd", "taskqueues.taskfleet.io")
    with pytest.raises(CommandError, match="NotFound"):
        kubectl("get", "clusterrole", f"{namespace}:tf-taskfleet")


def test_cluster_wide_permissions(
    helm: ClusterCommand, kubectl: ClusterCommand, namespace: str, second_namespace: str
) -> None:
    manifest = render(helm, namespace)
    assert "--namespace" not in deployment(manifest)["spec"]["template"]["spec"]["containers"][0]["args"]
    granted = [item for item in objects(manifest) if item["kind"] in CLUSTER_WIDE]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": granted}))
    try:
        for target in (namespace, second_namespace):
            wait_until_granted(kubectl, namespace, target, "patch", "taskfleet.io/taskqueues/status")
            assert can(kubectl, namespace, target, "create", "apps/deployments")
        assert not can(kubectl, namespace, "", "list", "apiextensions.k8s.io/customresourcedefinitions")
        assert not can(kubectl, namespace, namespace, "list", "/secrets")
        assert not can(kubectl, namespace, namespace, "delete", "apps/deployments")
        assert not can(kubectl, namespace, namespace, "delete", "taskfleet.io/taskqueues")
        assert not can(kubectl, namespace, "", "create", "rbac.authorization.k8s.io/clusterroles")
    finally:
        kubectl("delete", "clusterrole,clusterrolebinding", f"{namespace}:tf-taskfleet")


def test_namespaced_permissions(
    helm: ClusterCommand, kubectl: ClusterCommand, namespace: str, second_namespace: str
) -> None:
    # The operator runs in one namespace and serves another. It has no permissions in its own.
    manifest = render(helm, namespace, {"watch": {"namespaces": [second_namespace]}, "crds": {"install": False}})
    assert not any(item["kind"] in CLUSTER_WIDE for item in objects(manifest))
    arguments = deployment(manifest)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[-2:] == ["--namespace", second_namespace]
    granted = [item for item in objects(manifest) if item["kind"] in {"Role", "RoleBinding"}]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": granted}))
    wait_until_granted(kubectl, namespace, second_namespace, "patch", "taskfleet.io/taskqueues/status")
    assert can(kubectl, namespace, second_namespace, "get", "/secrets")
    assert not can(kubectl, namespace, second_namespace, "list", "/secrets")
    assert not can(kubectl, namespace, namespace, "get", "taskfleet.io/taskqueues")
    assert not can(kubectl, namespace, namespace, "get", "/secrets")
    assert not can(kubectl, namespace, "default", "get", "apps/deployments")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"watch": {"namespaces": "shop"}}, "watch/namespaces"),
        ({"watch": {"namespaces": ["Shop"]}}, "watch/namespaces/0"),
        ({"watch": {"namespaces": ["a", "a"]}}, "watch/namespaces"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": "1"}, "replicas"),
        ({"replicas": 2}, "replicas"),
        ({"image": {"tga": "1.0"}}, "tga"),
        ({"image": {"repository": ""}}, "image/repository"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
        ({"crds": {"instal": True}}, "instal"),
        ({"watch": {"namespace": ["shop"]}}, "namespace"),
        ({"watchNamespaces": ["shop"]}, "watchNamespaces"),
        ({"resources": {"request": {}}}, "request"),
        ({"podLabels": {"team": 1}}, "podLabels/team"),
        ({"extraEnv": [{"value": "x"}]}, "extraEnv/0"),
    ],
    ids=json.dumps,
)
def test_a_bad_value_is_refused_and_named(
    helm: ClusterCommand, namespace: str, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(CommandError) as caught:
        render(helm, namespace, values)
    assert field in caught.value.stderr
    assert "schema" in caught.value.stderr
