"""The chart's policy, and the roles of users: what the author of a TaskQueue can get, and what not."""

from __future__ import annotations

import copy
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand, CommandError

from tests.controlplane.test_chart import helm, is_allowed, objects, render
from tests.support.manifests import GOOD

__all__ = ["helm"]

POLICY = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


class Author:
    """A user whose only right is the chart's role for editing TaskQueues."""

    def __init__(self, kubectl: ClusterCommand, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    def try_to_create(self, manifest: dict[str, Any]) -> str:
        """The refusal of the API server, "" when it accepts. Nothing is stored."""
        try:
            self.kubectl(
                "create", "-f", "-", "--namespace", self.namespace, "--dry-run=server", "--as", "author",
                stdin=json.dumps(manifest),
            )  # fmt: skip
        except CommandError as error:
            return error.stderr
        return ""


@pytest.fixture(scope="module")
def author(crd: None, helm: ClusterCommand, kubectl: ClusterCommand) -> Iterator[Author]:
    namespace = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    values = {"crds": {"install": False}, "policy": {"enabled": True, "images": ["registry.example/*"]}}
    rendered = objects(render(helm, namespace, values))
    roles = [item for item in rendered if item["kind"] == "ClusterRole" and "aggregate-to" in json.dumps(item)]
    wanted = [*roles, *(item for item in rendered if item["kind"] in POLICY)]
    for item in wanted:
        # Other tests of this control plane are not bound by the policy.
        if item["kind"] == "ValidatingAdmissionPolicyBinding":
            item["spec"]["matchResources"] = {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
            }
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}))
    kubectl(
        "create", "rolebinding", "author", "--clusterrole", f"{namespace}:tf-taskfleet:edit", "--user", "author",
        "--namespace", namespace,
    )  # fmt: skip
    made = Author(kubectl, namespace)
    deadline = time.monotonic() + 30
    while "hostNetwork" not in made.try_to_create(manifest_with({"hostNetwork": True})):
        assert time.monotonic() < deadline, "the policy is not in effect"
        time.sleep(0.1)
    yield made
    for item in wanted:
        kubectl("delete", item["kind"], item["metadata"]["name"])
    kubectl("delete", "namespace", namespace, "--wait=false")


def manifest_with(pod: dict[str, Any] | None = None, **redis: Any) -> dict[str, Any]:
    made = copy.deepcopy(GOOD)
    made["spec"]["redis"] = {"url": "redis://redis:6379/0", **redis}
    if pod is not None:
        made["spec"]["worker"]["template"] = {"spec": pod}
    return made


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "worker", **fields}]}


def test_an_ordinary_taskqueue_is_accepted(author: Author) -> None:
    name = GOOD["metadata"]["name"]
    pod = {
        "nodeSelector": {"disk": "fast"},
        "securityContext": {"fsGroup": 1000},
        "volumes": [{"name": "own", "secret": {"secretName": f"{name}-files"}}, {"name": "tmp", "emptyDir": {}}],
        "initContainers": [{"name": "wait", "image": "registry.example/wait:1"}],
        **container(
            resources={"requests": {"cpu": "1"}},
            env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": "token"}}}, {"name": "A"}],
        ),
    }
    assert author.try_to_create(manifest_with()) == ""
    assert author.try_to_create(manifest_with(pod)) == ""
    ours = {"name": f"{name}-redis", "key": "password"}
    assert author.try_to_create(manifest_with(pod, auth={"passwordSecretRef": ours})) == ""
    inside = f"redis://redis.{author.namespace}.svc.cluster.local:6379/0"
    assert author.try_to_create(manifest_with(pod, url=inside)) == ""


FORBIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "a path of the node": ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "hostPath"),
    "the network of the node": ({"hostNetwork": True}, "hostNetwork"),
    "the processes of the node": ({"hostPID": True}, "hostPID"),
    "another ServiceAccount": ({"serviceAccountName": "admin"}, "serviceAccountName"),
    "another ServiceAccount, by its old name": ({"serviceAccount": "admin"}, "serviceAccount"),
    "the token of its ServiceAccount": ({"automountServiceAccountToken": True}, "automountServiceAccountToken"),
    "a token as a volume": (
        {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
        "projected",
    ),
    "a privileged container": (container(securityContext={"privileged": True}), "securityContext"),
    "a privileged init container": (
        {"initContainers": [{"name": "i", "image": "registry.example/i", "securityContext": {"privileged": True}}]},
        "securityContext",
    ),
    "capabilities": (container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "securityContext"),
    "escalation": (container(securityContext={"allowPrivilegeEscalation": True}), "securityContext"),
    "no security context": (container(securityContext=None), "securityContext"),
    "no security context of the pod": ({"securityContext": None}, "securityContext"),
    "root": ({"securityContext": {"runAsNonRoot": False}}, "securityContext"),
    "a null that removes the generated user": ({"securityContext": {"runAsUser": None}}, "securityContext"),
    "another team's secret as a volume": ({"volumes": [{"name": "s", "secret": {"secretName": "payroll"}}]}, "payroll"),
    "another team's secret in a variable": (
        container(env=[{"name": "S", "valueFrom": {"secretKeyRef": {"name": "payroll", "key": "k"}}}]),
        "secret",
    ),
    "another team's secret as the environment": (container(envFrom=[{"secretRef": {"name": "payroll"}}]), "secret"),
    "another team's secret for the registry": ({"imagePullSecrets": [{"name": "payroll"}]}, "payroll"),
    "another image": (container(image="elsewhere.example/miner:latest"), "image"),
    "a volume device": (container(volumeDevices=[{"name": "d", "devicePath": "/dev/sda"}]), "volumeDevices"),
    "an ephemeral container": ({"ephemeralContainers": [{"name": "e", "image": "x"}]}, "ephemeralContainers"),
    "a patch directive": ({"$patch": "replace"}, "$patch"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_the_policy_forbids_is_refused_and_named(author: Author, case: str) -> None:
    pod, named = FORBIDDEN[case]
    refusal = author.try_to_create(manifest_with(pod))
    assert "denied request" in refusal
    assert named in refusal


REDIS: dict[str, tuple[dict[str, Any], str]] = {
    "another host": ({"url": "redis://evil.example:6379/0"}, "evil.example"),
    "a service of another namespace": ({"url": "redis://redis.payroll.svc:6379/0"}, "redis.payroll.svc"),
    "a host that only ends like an allowed one": ({"url": "redis://evil.example/x.svc"}, "spec.redis.url"),
    "this machine": ({"url": "redis://localhost:6379/0"}, "localhost"),
    "an address": ({"url": "redis://[::1]:6379/0"}, "::1"),
    "a host in a secret": ({"url": None, "urlSecretRef": {"name": "orders", "key": "url"}}, "urlSecretRef"),
    "another team's password": ({"auth": {"passwordSecretRef": {"name": "payroll", "key": "password"}}}, "payroll"),
    "another team's CA": ({"tls": {"mode": "Enabled", "caSecretRef": {"name": "payroll", "key": "ca"}}}, "payroll"),
    "another team's certificate": ({"tls": {"mode": "Enabled", "clientCertSecretName": "payroll"}}, "payroll"),
    "a sentinel elsewhere": (
        {"url": None, "mode": "Sentinel", "sentinel": {"masterName": "m", "addresses": ["evil.example:26379"]}},
        "evil.example",
    ),
    "a cluster elsewhere": (
        {"url": None, "mode": "Cluster", "cluster": {"addresses": ["redis:6379", "evil.example:6379"]}},
        "evil.example",
    ),
}


@pytest.mark.parametrize("case", REDIS)
def test_no_secret_reaches_another_host(author: Author, case: str) -> None:
    redis, named = REDIS[case]
    manifest = manifest_with()
    manifest["spec"]["redis"] = {k: v for k, v in (manifest["spec"]["redis"] | redis).items() if v is not None}
    assert named in author.try_to_create(manifest)


def test_an_update_is_checked_too(author: Author) -> None:
    manifest = manifest_with()
    manifest["metadata"] |= {"name": "updated"}
    arguments = ("--namespace", author.namespace, "--as", "author")
    author.kubectl("create", "-f", "-", *arguments, stdin=json.dumps(manifest))
    patch = json.dumps({"spec": {"worker": {"template": {"spec": {"hostNetwork": True}}}}})
    with pytest.raises(CommandError, match="hostNetwork"):
        author.kubectl("patch", "tq", "updated", "--type", "merge", "--patch", patch, *arguments)


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("create", "taskfleet.io/taskqueues", True),
        ("delete", "taskfleet.io/taskqueues", True),
        ("patch", "taskfleet.io/taskqueues/scale", True),
        ("update", "taskfleet.io/taskqueues/status", False),
        ("get", "/secrets", False),
        ("create", "/pods", False),
        ("create", "/pods/exec", False),
        ("create", "apps/deployments", False),
    ],
)
def test_the_role_for_editing_grants_taskqueues_and_nothing_else(
    author: Author, verb: str, resource: str, allowed: bool
) -> None:
    assert is_allowed(author.kubectl, "author", author.namespace, verb, resource) == allowed
