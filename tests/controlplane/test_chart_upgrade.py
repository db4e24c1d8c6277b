"""An upgrade from an older chart, with live TaskQueues: nothing of theirs is lost, and the new operator takes over."""

from __future__ import annotations

import copy
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.child_process import ends_with_this_process
from tests.controlplane.test_chart import CHART, deployment, helm, render
from tests.controlplane.test_permissions import kubeconfig_of
from tests.support.manifests import GOOD
from tests.support.operator_space import CHILDREN, Space, enqueue, settled, until
from tests.support.redis_server import RedisServer

__all__ = ["helm"]

OLD_CHART = str(Path(__file__).parent / "data" / "chart-of-2026-11-25.tgz")


@pytest.fixture
def release(helm: ClusterCommand, kubectl: ClusterCommand, namespace: str, crd: None) -> Iterator[str]:
    """A release of the old chart, with the definition of that time."""
    helm("install", "tf", OLD_CHART, "--namespace", namespace, "--take-ownership", "--force")
    yield namespace
    helm("uninstall", "tf", "--namespace", namespace)
    # Later tests of this control plane need the definition of today.
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(Path(CHART) / "files" / "taskqueue.yaml"))


def test_an_upgrade_keeps_every_taskqueue_and_its_children(
    release: str,
    helm: ClusterCommand,
    kubectl: ClusterCommand,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    prefix = f"test-{secrets.token_hex(4)}"
    manifest = copy.deepcopy(GOOD)
    manifest["spec"]["redis"] = {"url": redis_server.url, "keyPrefix": prefix}
    space = Space(kubectl, release)
    space.apply(manifest)
    before = space.get("tq", "orders")
    assert "evictionProtection" not in json.dumps(kubectl.json("get", "crd", "taskqueues.taskfleet.io")["spec"])

    helm("upgrade", "tf", CHART, "--namespace", release)

    assert "evictionProtection" in json.dumps(kubectl.json("get", "crd", "taskqueues.taskfleet.io")["spec"])
    after = space.get("tq", "orders")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"].items() >= {key: after["spec"][key] for key in before["spec"]}.items()
    assert after["spec"]["redis"]["url"] == redis_server.url
    arguments = deployment(render(helm, release))["spec"]["template"]["spec"]["containers"][0]["args"]
    for port in ("--probe-port", "--metrics-port"):
        arguments[arguments.index(port) + 1] = "0"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(kubectl, release, "tf-taskfleet"))
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", *arguments],
            env=os.environ | {"KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": release},
            stderr=log,
            preexec_fn=ends_with_this_process(),
        )
    try:
        until(lambda: settled(space), "the new operator serves the old TaskQueue")
        assert all(space.get(kind, "orders-worker") for kind in CHILDREN)
        enqueue(redis_server, prefix, 1)
        until(lambda: space.replicas() > 0, "a worker for the task")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        text = (tmp_path / "operator.log").read_text()
        print(text)
    assert "orbidden" not in text
    assert "Traceback" not in text
