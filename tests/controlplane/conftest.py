"""A real control plane for the session, a fresh namespace for every test."""

from __future__ import annotations

import copy
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import binaries
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import ClusterCommand, wait_until

from taskfleet.child_process import ends_with_this_process
from tests.support import requirements
from tests.support.manifests import GOOD
from tests.support.operator_space import Manifest, Space
from tests.support.ports import free_port
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet
from tests.support.redis_server import RedisServer

_TIER = "control plane"
_UNBUILT = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the binaries before any test starts: on a bare machine that takes minutes, longer than a test's timeout."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if "control_plane" not in wanted:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        try:
            binaries.ensure(*(name for name in binaries.CONTROL_PLANE if name != "kube-scheduler"))
            if "helm" in wanted:
                binaries.ensure("helm")
        except ClusterError as missing:
            session.config.stash[_UNBUILT] = str(missing)


@pytest.fixture(scope="session")
def plane(pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """The control plane of this session."""
    if _UNBUILT in pytestconfig.stash:
        requirements.cannot_run(pytestconfig, _TIER, pytestconfig.stash[_UNBUILT])
    plane = ControlPlane()
    try:
        plane.start()
    except ClusterError as failed:
        requirements.cannot_run(pytestconfig, _TIER, str(failed))
    yield plane
    plane.stop()


@pytest.fixture(scope="session")
def control_plane(plane: ControlPlane) -> Path:
    """An administrator's kubeconfig for the control plane of this session."""
    return plane.kubeconfig


@pytest.fixture(scope="session")
def kubectl(control_plane: Path) -> ClusterCommand:
    """`kubectl("get", "pods")`: standard output; `CommandError` with standard error. `kubectl.json(…)` parses."""
    return ClusterCommand(binaries.ensure("kubectl")["kubectl"], control_plane)


CRD = Path(__file__).parents[2] / "crds" / "taskqueue.yaml"


@pytest.fixture(scope="session")
def crd(kubectl: ClusterCommand) -> None:
    """The TaskQueue definition, served."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    # `kubectl wait` fails at once on an object that has no conditions yet.
    wait_until(kubectl, "wait", "--for=condition=Established", "crd/taskqueues.taskfleet.io", "--timeout=30s")


@pytest.fixture
def namespace(kubectl: ClusterCommand) -> Iterator[str]:
    """A namespace with its service account, deleted after the test."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    wait_until(kubectl, "get", "serviceaccount", "default", "--namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis server of this session; `redis_server.url`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def nodes(control_plane: Path, namespace: str) -> Iterator[ProcessNodes]:
    """A node that runs the pods of this test's namespace as local processes. Other namespaces have no node."""
    with ProcessNodes(control_plane, namespace, [f"node-{namespace}"]) as running:
        yield running


@pytest.fixture
def operators(crd: None, control_plane: Path, namespace: str, tmp_path: Path) -> Iterator[OperatorProcesses]:
    """`operators.start()` starts an operator of this test's namespace."""
    with OperatorProcesses(control_plane, namespace, tmp_path) as running:
        yield running
    print(running.log())
    assert "Traceback" not in running.log()


@pytest.fixture
def fleet(crd: None, kubectl: ClusterCommand, namespace: str, redis_server: RedisServer) -> RealFleet:
    """A TaskQueue `orders`; with the fixture `nodes` its pods are real workers."""
    return RealFleet(kubectl, namespace, redis_server)


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def manifest(redis_server: RedisServer, prefix: str) -> Manifest:
    made = copy.deepcopy(GOOD)
    made["spec"]["redis"] = {"url": redis_server.url, "keyPrefix": prefix}
    made["spec"]["autoscaler"] |= {"cooldownSeconds": 2, "pollIntervalSeconds": 1}
    return made


@pytest.fixture
def operator(
    crd: None, kubectl: ClusterCommand, namespace: str, control_plane: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an operator that watches the test's namespace."""
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "operator", "--namespace", namespace, "--probe-port", str(free_port())],
            env=os.environ | {"KUBECONFIG": str(control_plane)},
            stderr=log,
            preexec_fn=ends_with_this_process(),
        )
        yield process
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
    text = (tmp_path / "operator.log").read_text()
    print(text)
    assert "Traceback" not in text


@pytest.fixture
def space(kubectl: ClusterCommand, namespace: str) -> Space:
    return Space(kubectl, namespace)
