"""The operator with the permissions that the chart gives it, and no others."""

from __future__ import annotations

import copy
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.child_process import ends_with_this_process
from tests.controlplane.test_chart import CLUSTER_WIDE, helm, objects, render, second_namespace, wait_until_granted
from tests.support.manifests import GOOD
from tests.support.operator_space import CHILDREN, Space, enqueue, settled, until
from tests.support.redis_server import RedisServer

__all__ = ["helm", "second_namespace"]

GRANTS = CLUSTER_WIDE | {"Role", "RoleBinding", "ServiceAccount"}


def kubeconfig_of(kubectl: ClusterCommand, namespace: str, account: str) -> str:
    """The administrator's kubeconfig, with a token of the service account."""
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    token = kubectl("create", "token", account, "--namespace", namespace).strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    return json.dumps(config)


@pytest.mark.parametrize("everywhere", [True, False], ids=["all namespaces", "one namespace"])
def test_the_chart_grants_every_permission_that_the_operator_needs(
    crd: None,
    helm: ClusterCommand,
    kubectl: ClusterCommand,
    namespace: str,
    second_namespace: str,
    redis_server: RedisServer,
    tmp_path: Path,
    everywhere: bool,
) -> None:
    served = [] if everywhere else [second_namespace]
    rendered = objects(render(helm, namespace, {"watch": {"namespaces": served}, "crds": {"install": False}}))
    grants = [item for item in rendered if item["kind"] in GRANTS]
    arguments = next(item for item in rendered if item["kind"] == "Deployment")
    arguments = arguments["spec"]["template"]["spec"]["containers"][0]["args"]
    for port in ("--probe-port", "--metrics-port"):
        arguments[arguments.index(port) + 1] = "0"
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": grants}))
    wait_until_granted(kubectl, namespace, second_namespace, "patch", "taskfleet.io/taskqueues/status")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(kubectl, namespace, "tf-taskfleet"))

    prefix = f"test-{secrets.token_hex(4)}"
    manifest = copy.deepcopy(GOOD)
    manifest["spec"]["redis"] = {"url": redis_server.url, "keyPrefix": prefix}
    space = Space(kubectl, second_namespace)
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", *arguments],
            env=os.environ | {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": namespace},
            stderr=log,
            preexec_fn=ends_with_this_process(),
        )
    try:
        space.apply(manifest)
        until(lambda: settled(space), "it is ready")
        assert all(space.get(kind, "orders-worker") for kind in CHILDREN)
        enqueue(redis_server, prefix, 1)
        until(lambda: space.replicas() > 0, "a worker for the task")
        until(lambda: "ScaledUp" in space("get", "events", "-o", "yaml"), "its event")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        for item in grants:
            if item["kind"] in CLUSTER_WIDE:
                kubectl("delete", item["kind"], item["metadata"]["name"])
        text = (tmp_path / "operator.log").read_text()
        print(text)
    assert "orbidden" not in text
