"""A TaskQueue whose tasks note their start and end, on pods; and the Redis in the cluster that all of them share."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from tests.support import process_node_app
from tests.support.process_node_fleet import RealFleet, until

from e2e.cluster.kubectl import ClusterCommand, CommandError, wait_until
from e2e.operator_release import RESTRICTED
from taskfleet.child_process import ends_with_this_process

_APP = Path(process_node_app.__file__)
_USER = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


class ForwardedRedis:
    """A Redis in a pod: `inside` is its address for pods, `url` the one for this process, through `kubectl`."""

    def __init__(self, namespace: str, port: int) -> None:
        self.inside = f"redis://redis.{namespace}.svc:6379/0"
        self.url = f"redis://127.0.0.1:{port}/0"
        self._client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=10, protocol=2)

    def call(self, *command: str | int | bytes) -> Any:
        return self._client.execute_command(*command)


@contextlib.contextmanager
def redis_in_the_cluster(kubectl: ClusterCommand) -> Iterator[ForwardedRedis]:
    """A namespace with a Redis that answers, deleted at the end."""
    with namespace_of_a_test(kubectl) as namespace:
        there = ("--namespace", namespace)
        kubectl(
            "apply", "-f", "-", *there, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests()})
        )
        kubectl("rollout", "status", "deployment/redis", "--timeout=60s", *there)
        command = [str(kubectl.binary), "--kubeconfig", str(kubectl.kubeconfig), "port-forward", *there]
        with subprocess.Popen(
            [*command, "deployment/redis", ":6379"],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ends_with_this_process(),
        ) as forwarding:
            try:
                assert forwarding.stdout is not None
                told = re.search(r"127\.0\.0\.1:(\d+) ->", line := forwarding.stdout.readline())
                assert told, f"kubectl port-forward says {line!r}"
                yield ForwardedRedis(namespace, int(told[1]))
            finally:
                forwarding.terminate()


def manifests() -> list[dict[str, Any]]:
    """A Redis, and its Service `redis`."""
    labels = {"app": "redis"}
    container = {
        "name": "redis",
        "image": "taskfleet-redis:dev",
        "ports": [{"containerPort": 6379}],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "securityContext": _CONTAINER,
    }
    pod = {"securityContext": _USER, "containers": [container]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "redis"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "redis"},
            "spec": {"selector": labels, "ports": [{"port": 6379}]},
        },
    ]


@contextlib.contextmanager
def namespace_of_a_test(kubectl: ClusterCommand) -> Iterator[str]:
    """A namespace with its service account, deleted at the end."""
    name = f"e2e-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    wait_until(kubectl, "get", "serviceaccount", "default", "--namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


class PodFleet(RealFleet):
    """One TaskQueue on the plain worker image, with its application in a ConfigMap, under Pod Security `restricted`."""

    def __init__(self, kubectl: ClusterCommand, namespace: str, redis: ForwardedRedis, name: str = "orders") -> None:
        super().__init__(kubectl, namespace, redis, name)
        kubectl("label", "namespace", namespace, RESTRICTED, "--overwrite")
        self("create", "configmap", f"{name}-code", f"--from-file={_APP.name}={_APP}")
        self.manifest["spec"]["redis"]["url"] = redis.inside
        self.manifest["spec"]["worker"] |= {
            "image": "taskfleet-worker:dev",
            "app": f"{_APP.stem}:queue",
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "worker",
                            "resources": {"requests": {"cpu": "10m"}},
                            "volumeMounts": [{"name": "code", "mountPath": "/app", "readOnly": True}],
                        }
                    ],
                    "volumes": [{"name": "code", "configMap": {"name": f"{name}-code"}}],
                }
            },
        }

    def evict(self, pod: str) -> bool:
        """As `kubectl drain` does it; `False` when the budget does not allow it now."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        try:
            self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
        except CommandError as refused:
            if "disruption budget" not in refused.stderr:
                raise
            return False
        return True

    def work_through(self, count: int, seconds: float, *, first: int = 0) -> None:
        """Enqueue these tasks, and assert that each has run once."""
        self.enqueue(range(first, first + count), seconds=seconds)
        self.wait_for_the_end(first + count)
        self.ran_once(range(first + count))

    def wait_for_the_end(self, count: int, *, seconds: float = 180) -> None:
        until(lambda: len(self.journal("end")) == count, f"{count} tasks have ended", seconds=seconds)
