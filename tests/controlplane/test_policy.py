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

BOUND = "policy-of"  # a label of the namespaces that the policy of this test binds
POLICY = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


class Author:
    """A user whose only right is the chart's role for editing TaskQueues."""

    def __init__(self, kubectl: ClusterCommand, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    def try_to_create(self, manifest: dict[str, Any]) -> str:
        """The refusal of the API server, "" when it accepts. Nothing is stored."""
        return self._refusal(
            "create", "-f", "-", "--namespace", self.namespace, "--dry-run=server", "--as", "author",
            stdin=json.dumps(manifest),
        )  # fmt: skip

    def wait_for_refusal(self, *arguments: str, stdin: str | None = None) -> None:
        """Repeat a command until the policy refuses it for its `hostNetwork`."""
        deadline = time.monotonic() + 60
        while "hostNetwork" not in self._refusal(*arguments, stdin=stdin):
            assert time.monotonic() < deadline, "the policy is not in effect"
            time.sleep(0.1)

    def _refusal(self, *arguments: str, stdin: str | None) -> str:
        try:
            self.kubectl(*arguments, stdin=stdin)
        except CommandError as error:
            return error.stderr
        return ""


@pytest.fixture(scope="module")
def author(crd: None, helm: ClusterCommand, kubectl: ClusterCommand) -> Iterator[Author]:
    namespace = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, f"{BOUND}={namespace}")
    values = {"crds": {"install": False}, "policy": {"enabled": True, "images": ["registry.example/*"]}}
    rendered = objects(render(helm, namespace, values))
    roles = [item for item in rendered if item["kind"] == "ClusterRole" and "aggregate-to" in json.dumps(item)]
    wanted = [*roles, *(item for item in rendered if item["kind"] in POLICY)]
    for item in wanted:
        # Other tests of this control plane are not bound by the policy.
        if item["kind"] == "ValidatingAdmissionPolicyBinding":
            item["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": {BOUND: namespace}}}
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}))
    kubectl(
        "create", "rolebinding", "author", "--clusterrole", f"{namespace}:tf-taskfleet:edit", "--user", "author",
        "--namespace", namespace,
    )  # fmt: skip
    made = Author(kubectl, namespace)
    refused = json.dumps(manifest_with({"hostNetwork": True}))
    made.wait_for_refusal("create", "-f", "-", "--namespace", namespace, "--dry-run=server", stdin=refused)
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
    "a port of the node": (container(ports=[{"containerPort": 80, "hostPort": 80}]), "hostPort"),
    "an address of the node": (container(ports=[{"containerPort": 80, "hostIP": "127.0.0.1"}]), "hostIP"),
    "a probe of another host": (
        container(livenessProbe={"httpGet": {"port": 10255, "host": "127.0.0.1"}}),
        "host",
    ),
    "a probe of another host by TCP": (container(startupProbe={"tcpSocket": {"port": 1, "host": "10.0.0.1"}}), "host"),
    "a hook that calls another host": (
        {
            "initContainers": [
                {
                    "name": "i",
                    "image": "registry.example/i",
                    "lifecycle": {"preStop": {"httpGet": {"port": 80, "host": "169.254.169.254"}}},
                }
            ]
        },
        "host",
    ),
    "a priority above the others": ({"priorityClassName": "system-cluster-critical"}, "priorityClassName"),
    "another team's claim": (
        {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "payroll"}}]},
        "payroll",
    ),
    "a copy of another team's claim": (
        {
            "volumes": [
                {
                    "name": "d",
                    "ephemeral": {
                        "volumeClaimTemplate": {
                            "spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "payroll"}}
                        }
                    },
                }
            ]
        },
        "ephemeral",
    ),
    "capabilities back": (container(securityContext={"capabilities": {"drop": []}}), "securityContext"),
    "no seccomp": (container(securityContext={"seccompProfile": {"type": "Unconfined"}}), "securityContext"),
    "no seccomp of the pod": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "securityContext"),
    "no seccomp, by null": ({"securityContext": {"seccompProfile": None}}, "securityContext"),
    "the whole of /proc": (container(securityContext={"procMount": "Unmasked"}), "securityContext"),
    "settings of the kernel": ({"securityContext": {"sysctls": [{"name": "a", "value": "1"}]}}, "securityContext"),
    "another runtime": ({"runtimeClassName": "unconfined"}, "runtimeClassName"),
    "a node by name": ({"nodeName": "control-plane"}, "nodeName"),
    "the users of the node": ({"hostUsers": True}, "hostUsers"),
    "the processes of other containers": ({"shareProcessNamespace": True}, "shareProcessNamespace"),
    "a driver of volumes": ({"volumes": [{"name": "c", "csi": {"driver": "secrets"}}]}, "csi"),
    "no containers, but null": ({"containers": [None]}, ""),
    "a map of containers": ({"containers": {"name": "x"}}, ""),
    "a map of volumes": ({"volumes": {"name": {"hostPath": {"path": "/"}}}}, ""),
}

METADATA: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "pods behind another team's Service": ({"labels": {"app": "payroll"}}, {}, "app"),
    "objects behind another team's selector": ({}, {"labels": {"app": "payroll"}}, "app"),
    "another team's role in the cloud": ({}, {"annotations": {"eks.amazonaws.com/role-arn": "arn:payroll"}}, "eks"),
    "another team's name in DNS": (
        {},
        {"annotations": {"external-dns.alpha.kubernetes.io/hostname": "payroll.example"}},
        "external-dns",
    ),
    "no AppArmor": (
        {"annotations": {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"}},
        {},
        "apparmor",
    ),
    "pods that never go": ({"finalizers": ["example.com/never"]}, {}, "finalizers"),
    "labels that are a list": ({"labels": ["app"]}, {}, ""),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_other_programs_obey_is_refused(author: Author, case: str) -> None:
    pods, children, named = METADATA[case]
    manifest = manifest_with()
    manifest["spec"]["worker"] |= {"template": {"metadata": pods}, "metadata": children}
    refusal = author.try_to_create(manifest)
    assert "denied request" in refusal
    assert named in refusal


def test_a_pod_security_policy_can_be_met(author: Author) -> None:
    """What makes a container safer is allowed: a namespace with Pod Security `restricted` asks for it."""
    strict = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "i", "image": "registry.example/i", "securityContext": strict}],
        "volumes": [{"name": "own", "persistentVolumeClaim": {"claimName": f"{GOOD['metadata']['name']}-data"}}],
        **container(
            ports=[{"containerPort": 9000, "name": "own"}],
            livenessProbe={"httpGet": {"port": 9000, "path": "/"}, "periodSeconds": 5},
            lifecycle={"preStop": {"sleep": {"seconds": 1}}},
        ),
    }
    manifest = manifest_with(pod)
    manifest["spec"]["worker"]["template"]["metadata"] = {
        "labels": {"app.kubernetes.io/version": "1"},
        "annotations": {"prometheus.io/scrape": "true"},
    }
    manifest["spec"]["worker"]["metadata"] = {"labels": {"app.kubernetes.io/version": "1"}}
    assert author.try_to_create(manifest) == ""


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
    "an address that is a number": ({"url": "redis://2130706433:6379/0"}, "2130706433"),
    "an address in hexadecimal": ({"url": "redis://0x7f000001:6379/0"}, "0x7f000001"),
    "this machine in capitals": ({"url": "redis://LocalHost:6379/0"}, "LocalHost"),
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


def test_what_was_there_before_the_policy_can_go(author: Author) -> None:
    """An operator takes its finalizer from it, and people label it: neither changes what it asks for."""
    kubectl, namespace = author.kubectl, f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    manifest = manifest_with({"hostNetwork": True})
    manifest["metadata"] |= {"name": "earlier", "finalizers": ["example.com/hold"]}
    kubectl("create", "-f", "-", "--namespace", namespace, stdin=json.dumps(manifest))
    kubectl("label", "namespace", namespace, f"{BOUND}={author.namespace}")
    spec = json.dumps({"spec": {"worker": {"concurrency": 2}}})
    bound = ("patch", "tq", "earlier", "--namespace", namespace, "--type=merge", "--dry-run=server", "-p", spec)
    author.wait_for_refusal(*bound)
    kubectl("label", "tq", "earlier", "team=a", "--namespace", namespace)
    kubectl("delete", "tq", "earlier", "--namespace", namespace, "--wait=false")
    free = json.dumps({"metadata": {"finalizers": None}})
    kubectl("patch", "tq", "earlier", "--namespace", namespace, "--type=merge", "-p", free)
    assert not kubectl("get", "tq", "--namespace", namespace, "-o", "name")
    kubectl("delete", "namespace", namespace, "--wait=false")


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
