"""The Helm chart, against a real API server."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster import binaries
from e2e.cluster.kubectl import ClusterCommand, CommandError

from tests.support.manifests import GOOD

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


def is_allowed(kubectl: ClusterCommand, user: str, namespace: str, verb: str, resource: str) -> bool:
    """Whether a user may do it in a namespace; `resource` is `GROUP/RESOURCE[/SUBRESOURCE]`."""
    group, name, subresource = (resource + "/").split("/")[:3]
    asked = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": asked},
    }
    answer = json.loads(kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def can(kubectl: ClusterCommand, account_namespace: str, target: str, verb: str, resource: str) -> bool:
    """Whether the operator of one namespace may do it in another; `resource` is as in `is_allowed`."""
    return is_allowed(kubectl, f"system:serviceaccount:{account_namespace}:tf-taskfleet", target, verb, resource)


def wait_until_granted(kubectl: ClusterCommand, account_namespace: str, target: str, verb: str, resource: str) -> None:
    """Wait until the authorizer knows a new role, a moment after it is written."""
    deadline = time.monotonic() + 60
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
        "replicas": 3,
        "image": {"repository": "registry.example:5000/taskfleet-operator", "tag": "1.2.3", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccount": {"create": True, "name": "fleet", "annotations": {"example.com/role": "x"}},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "logFormat": "json",
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
        "watch": {"selector": "shard in (a, b)"},
        "leaderElection": {"leaseName": "shard-a"},
        "rbac": {"userRoles": False},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "metrics": {"port": 9000},
        "webhook": {"enabled": True, "failurePolicy": "Fail"},
        "policy": {"enabled": True, "actions": ["Warn", "Audit"], "namespaceSelector": {"matchLabels": {"a": "b"}}},
        "networkPolicy": {
            "operator": {
                "enabled": True,
                "metricsFrom": [{"namespaceSelector": {}}],
                "egress": [{"ports": [{"port": 6443}]}],
            },
            "workers": {"enabled": True, "namespaces": ["default"], "egress": [{"ports": [{"port": 6379}]}]},
        },
    }
    applied = kubectl("apply", "--dry-run=server", "-f", "-", stdin=render(helm, namespace, values))
    for name in (
        "serviceaccount/fleet", "poddisruptionbudget.policy/fleet", "deployment.apps/fleet", "service/fleet-metrics",
        "service/fleet-webhook", "networkpolicy.networking.k8s.io/fleet-workers",
        "role.rbac.authorization.k8s.io/fleet-leader",
    ):  # fmt: skip
        assert name in applied


def test_every_value_has_an_effect(helm: ClusterCommand, namespace: str) -> None:
    """Each value is changed alone; the rendered objects must differ, and nothing that differs may lack the value."""
    peers = [{"podSelector": {}}]
    base = {
        "webhook": {"enabled": True},
        "policy": {"enabled": True},
        "metrics": {
            each: {"enabled": True}
            for each in ("serviceMonitor", "podMonitor", "workerPodMonitor", "rules", "dashboards")
        },
        "dashboard": DASHBOARD,
        "networkPolicy": {
            "operator": {"enabled": True, "metricsFrom": peers},
            "workers": {"enabled": True, "namespaces": ["a"], "metricsFrom": peers},
        },
    }
    before = without_keys(render(helm, namespace, base))
    unchanged = [
        path
        for path, value in CHANGES.items()
        if value is not None and same(helm, namespace, base, path, value, before)
    ]
    assert unchanged == []
    assert set(leaves(yaml.safe_load((Path(CHART) / "values.yaml").read_text()))) - CHANGES.keys() == set()


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of all values of the chart."""
    for name, value in values.items():
        if isinstance(value, dict) and value and prefix + name not in CHANGES:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def same(helm: ClusterCommand, namespace: str, base: dict[str, Any], path: str, value: Any, before: str) -> bool:
    changed = copy.deepcopy(base)
    if path == "webhook.secretName":
        changed["webhook"]["certificate"] = "Secret"
    if path in {"webhook.caBundle", "webhook.issuerRef"}:
        changed["webhook"] |= {
            "certificate": "Secret" if path.endswith("caBundle") else "CertManager",
            "secretName": "s",
        }
        before = without_keys(render(helm, namespace, changed))
    node = changed
    *parents, last = path.split(".")
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return without_keys(render(helm, namespace, changed)) == before


def without_keys(manifest: str) -> str:
    """The manifest without the certificates that Helm generates anew at each rendering."""
    return re.sub(r"(?m)(tls\.crt|tls\.key|ca\.crt|caBundle): \S{100,}$", "", manifest)


DASHBOARD: dict[str, Any] = {
    "enabled": True,
    "redis": {"url": "redis://redis:6379/0"},
    "podMonitor": {"enabled": True},
    "networkPolicy": {"enabled": True},
}
CHANGES: dict[str, Any] = {
    "watch.namespaces": ["a"],
    "watch.selector": "shard=a",
    "replicas": 1,
    "leaderElection.enabled": None,
    "leaderElection.leaseName": "other",
    "image.repository": "other",
    "image.tag": "2.0",
    "image.pullPolicy": "Never",
    "imagePullSecrets": [{"name": "registry"}],
    "crds.install": False,
    "serviceAccount.create": None,
    "serviceAccount.name": "other",
    "serviceAccount.annotations": {"a": "b"},
    "rbac.create": False,
    "rbac.userRoles": False,
    "resources": {"requests": {"cpu": "2"}},
    "podSecurityContext": {"runAsUser": 1},
    "securityContext": {"runAsUser": 1},
    "podDisruptionBudget.enabled": False,
    "podDisruptionBudget.maxUnavailable": 2,
    "metrics.port": 9999,
    "metrics.service": False,
    "metrics.serviceMonitor.enabled": False,
    "metrics.serviceMonitor.interval": "5s",
    "metrics.serviceMonitor.labels": {"a": "b"},
    "metrics.podMonitor.enabled": False,
    "metrics.podMonitor.interval": "5s",
    "metrics.podMonitor.labels": {"a": "b"},
    "metrics.workerPodMonitor.enabled": False,
    "metrics.workerPodMonitor.interval": "5s",
    "metrics.workerPodMonitor.labels": {"a": "b"},
    "metrics.rules.enabled": False,
    "metrics.rules.labels": {"a": "b"},
    "metrics.rules.alertLabels": {"a": "b"},
    "metrics.rules.disabled": ["TaskfleetNoWorker"],
    "metrics.dashboards.enabled": False,
    "metrics.dashboards.namespace": "monitoring",
    "metrics.dashboards.labels": {"a": "b"},
    "metrics.dashboards.annotations": {"a": "b"},
    "webhook.enabled": False,
    "webhook.port": 9999,
    "webhook.failurePolicy": "Fail",
    "webhook.timeoutSeconds": 9,
    "webhook.certificate": "CertManager",
    "webhook.secretName": "other",
    "webhook.caBundle": "QUJD",
    "webhook.issuerRef": {"name": "own", "kind": "ClusterIssuer"},
    "policy.enabled": False,
    "policy.actions": ["Audit"],
    "policy.namespaceSelector": {"matchLabels": {"a": "b"}},
    "policy.redisHosts": ["*"],
    "policy.secrets": ["*"],
    "policy.images": ["own/*"],
    "policy.claims": ["data"],
    "policy.labels": ["team"],
    "policy.annotations": ["example.com/*"],
    "policy.podFields": ["containers"],
    "policy.containerFields": ["name"],
    "policy.volumes": ["emptyDir"],
    "policy.podSecurityFields": ["fsGroup"],
    "policy.containerSecurityFields": ["runAsUser"],
    "dashboard.enabled": False,
    "dashboard.replicas": 2,
    "dashboard.namespace": "shop",
    "dashboard.viewers": [{"kind": "Group", "name": "developers"}],
    "dashboard.editors": [{"kind": "User", "name": "erik"}],
    "dashboard.readOnly": True,
    "dashboard.mask": ["password"],
    "dashboard.redis.url": "redis://other",
    "dashboard.redis.urlSecretRef": None,
    "dashboard.redis.username": "dashboard",
    "dashboard.redis.passwordSecretRef": {"name": "redis", "key": "password"},
    "dashboard.redis.caSecretRef": {"name": "redis", "key": "ca.crt"},
    "dashboard.redis.keyPrefix": "shop",
    "dashboard.image.repository": "other",
    "dashboard.image.tag": "2.0",
    "dashboard.service.port": 8080,
    "dashboard.service.annotations": {"a": "b"},
    "dashboard.serviceAccount.create": None,
    "dashboard.serviceAccount.name": "other",
    "dashboard.serviceAccount.annotations": {"a": "b"},
    "dashboard.resources": {"requests": {"cpu": "2"}},
    "dashboard.podMonitor.enabled": False,
    "dashboard.podMonitor.interval": "5s",
    "dashboard.podMonitor.labels": {"a": "b"},
    "dashboard.networkPolicy.enabled": False,
    "dashboard.networkPolicy.from": [{"podSelector": {}}],
    "dashboard.networkPolicy.egress": [{"ports": [{"port": 443}]}],
    "dashboard.extraArgs": ["--log-level=DEBUG"],
    "dashboard.extraEnv": [{"name": "A", "value": "b"}],
    "dashboard.podAnnotations": {"a": "b"},
    "dashboard.podLabels": {"a": "b"},
    "dashboard.nodeSelector": {"a": "b"},
    "dashboard.tolerations": [{"key": "a"}],
    "dashboard.affinity": {"nodeAffinity": {}},
    "dashboard.priorityClassName": "high",
    "networkPolicy.operator.enabled": False,
    "networkPolicy.operator.metricsFrom": [],
    "networkPolicy.operator.egress": [{"ports": [{"port": 443}]}],
    "networkPolicy.workers.enabled": False,
    "networkPolicy.workers.namespaces": ["b"],
    "networkPolicy.workers.metricsFrom": [],
    "networkPolicy.workers.egress": [{"ports": [{"port": 443}]}],
    "logFormat": "json",
    "extraArgs": ["--log-level=DEBUG"],
    "extraEnv": [{"name": "A", "value": "b"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 2}],
    "priorityClassName": "high",
    "nameOverride": "other",
    "fullnameOverride": "other",
}
"""Another value for every value of the chart. None: tested below, since it needs a second value."""


def test_without_an_operator_the_webhook_is_in_nobodys_way_but_for_a_new_spec(
    crd: None, helm: ClusterCommand, kubectl: ClusterCommand, namespace: str
) -> None:
    values = {"webhook": {"enabled": True, "failurePolicy": "Fail"}, "watch": {"namespaces": [namespace]}}
    rendered = objects(render(helm, namespace, values))
    (webhook,) = (item for item in rendered if item["kind"] == "ValidatingWebhookConfiguration")
    manifest = copy.deepcopy(GOOD)
    manifest["metadata"]["finalizers"] = ["example.com/waits"]
    tq = ("tq", manifest["metadata"]["name"], "--namespace", namespace)
    kubectl("create", "-f", "-", "--namespace", namespace, stdin=json.dumps(manifest))
    kubectl("create", "-f", "-", stdin=json.dumps(webhook))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                kubectl("patch", *tq, "--type=merge", "--dry-run=server", "-p", '{"spec": {"suspend": true}}')
            except CommandError as error:
                assert "failed calling webhook" in error.stderr  # noqa: PT017 - it takes effect a moment later
                break
            assert time.monotonic() < deadline, "the webhook is never asked"
            time.sleep(0.1)
        kubectl("label", *tq, "team=shop")
        kubectl("delete", *tq, "--wait=false")
        kubectl("patch", *tq, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        kubectl("wait", "--for=delete", *tq, "--timeout=30s")
    finally:
        kubectl("delete", "validatingwebhookconfiguration", webhook["metadata"]["name"])


def test_two_operators_need_a_lease(helm: ClusterCommand, namespace: str) -> None:
    with pytest.raises(CommandError, match="replicas: two operators without leaderElection"):
        render(helm, namespace, {"leaderElection": {"enabled": False}})
    alone = render(helm, namespace, {"leaderElection": {"enabled": False}, "replicas": 1})
    assert deployment(alone)["spec"]["strategy"] == {"type": "Recreate"}
    assert "--lease-namespace=" in deployment(alone)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "leases" not in alone


def test_the_default_account_never_gets_the_permissions(helm: ClusterCommand, namespace: str) -> None:
    with pytest.raises(CommandError, match=r"serviceAccount\.name"):
        render(helm, namespace, {"serviceAccount": {"create": False}})
    given = render(helm, namespace, {"serviceAccount": {"create": False, "name": "own"}})
    assert deployment(given)["spec"]["template"]["spec"]["serviceAccountName"] == "own"
    assert not any(item["kind"] == "ServiceAccount" for item in objects(given))


def test_no_permission_is_a_wildcard_and_no_secret_is_listed(helm: ClusterCommand, namespace: str) -> None:
    for values in ({}, {"watch": {"namespaces": ["a"]}}, {"webhook": {"enabled": True}}):
        for item in objects(render(helm, namespace, values)):
            for rule in item.get("rules", []) if item["kind"] in {"Role", "ClusterRole"} else []:
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
                assert "pods/exec" not in rule["resources"]
                if "secrets" in rule["resources"]:
                    assert rule["verbs"] == ["get"]


def test_two_releases_share_the_definition(helm: ClusterCommand, kubectl: ClusterCommand, namespace: str) -> None:
    """An uninstall keeps the definition. The next release takes it over with --take-ownership, as documented."""
    helm("install", "first", CHART, "--namespace", namespace, "--take-ownership")
    helm("uninstall", "first", "--namespace", namespace)
    helm("install", "second", CHART, "--namespace", namespace, "--take-ownership")
    try:
        owner = kubectl.json("get", "crd", "taskqueues.taskfleet.io")["metadata"]["annotations"]
        assert owner["meta.helm.sh/release-name"] == "second"
    finally:
        helm("uninstall", "second", "--namespace", namespace)


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
        assert kubectl.json("get", "deployment", "tf-taskfleet", "--namespace", namespace)["spec"]["replicas"] == 2
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
        ({"replicas": 6}, "replicas"),
        ({"webhook": {"failurePolicy": "Maybe"}}, "webhook/failurePolicy"),
        ({"policy": {"podField": []}}, "podField"),
        ({"policy": {"redisHosts": ["a(b"]}}, "policy/redisHosts"),
        ({"metrics": {"port": 80}}, "metrics/port"),
        ({"image": {"tga": "1.0"}}, "tga"),
        ({"image": {"repository": ""}}, "image/repository"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
        ({"crds": {"instal": True}}, "instal"),
        ({"watch": {"namespace": ["shop"]}}, "namespace"),
        ({"watchNamespaces": ["shop"]}, "watchNamespaces"),
        ({"resources": {"request": {}}}, "request"),
        ({"podLabels": {"team": 1}}, "podLabels/team"),
        ({"logFormat": "xml"}, "logFormat"),
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
