"""An operator that lacks a permission: the status names it, the rest goes on, and it heals when it is granted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.cluster.kubectl import ClusterCommand

from tests.controlplane.test_chart import is_allowed
from tests.controlplane.test_permissions import kubeconfig_of
from tests.support.operator_space import CHILDREN, NAME, Manifest, Space, enqueue, purge, settled, told, until
from tests.support.ports import free_port
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet
from tests.support.redis_server import RedisServer

_RULES = Path(__file__).parents[2] / "helm/taskfleet/templates/_rules.tpl"
_ACCOUNT = "operator"

_RBAC = "rbac.authorization.k8s.io"

Grant = Callable[..., None]


def rules(resource: str = "", verbs: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The chart's rules, without these verbs on this resource."""
    text = "\n".join(line for line in _RULES.read_text().splitlines() if not line.startswith("{{"))
    found: list[dict[str, Any]] = []
    for rule in yaml.safe_load(text):
        for name in rule["resources"]:
            full = f"{rule['apiGroups'][0]}/{name}"
            kept = [verb for verb in rule["verbs"] if full != resource or verb not in verbs]
            if kept:
                found.append({"apiGroups": rule["apiGroups"], "resources": [name], "verbs": kept})
    return found


@pytest.fixture
def grant(kubectl: ClusterCommand, space: Space) -> Grant:
    """`grant(resource, *verbs)`: every permission of the chart but these; `grant()`: every one."""
    lacking: set[tuple[str, str]] = set()

    def write(resource: str = "", *verbs: str) -> None:
        role = {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": {"name": _ACCOUNT}}
        space.apply(role | {"rules": rules(resource, frozenset(verbs))})
        before = lacking.copy()
        lacking.clear()
        lacking.update((resource, verb) for verb in verbs)
        for name, verb in before | lacking:
            allowed = (name, verb) not in lacking
            until(lambda: is_allowed(kubectl, user, space.name, verb, name) is allowed, f"{verb} {name}: {allowed}")  # noqa: B023

    user = f"system:serviceaccount:{space.name}:{_ACCOUNT}"
    space("create", "serviceaccount", _ACCOUNT)
    binding = {"apiVersion": f"{_RBAC}/v1", "kind": "RoleBinding", "metadata": {"name": _ACCOUNT}}
    to = {"apiGroup": _RBAC, "kind": "Role", "name": _ACCOUNT}
    space.apply(binding | {"roleRef": to, "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT}]})
    lacking.add(("taskfleet.io/taskqueues/status", "patch"))
    write()
    return write


@pytest.fixture
def operators(
    crd: None, kubectl: ClusterCommand, space: Space, grant: Grant, tmp_path: Path
) -> Iterator[OperatorProcesses]:
    """Operators with the rights of `grant`."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(kubectl, space.name, _ACCOUNT))
    with OperatorProcesses(kubeconfig, space.name, tmp_path) as running:
        yield running
    print(running.log())
    assert "Traceback" not in running.log()


EVERY = ("get", "list", "watch", "create", "patch", "delete")


@pytest.mark.parametrize(
    ("resource", "verbs"),
    [("/services", ("create", "patch")), ("policy/poddisruptionbudgets", EVERY)],
    ids=["a Service that may not be written", "a PodDisruptionBudget that may not even be seen"],
)
def test_a_forbidden_child_that_pods_do_without_stops_nothing_else(
    operators: OperatorProcesses,
    grant: Grant,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
    resource: str,
    verbs: tuple[str, ...],
) -> None:
    grant(resource, *verbs)
    operators.start()
    space.apply(manifest)
    message = told(space, "Reconciled", "Forbidden")
    plural = resource.rpartition("/")[2]
    assert f"{plural}" in message
    assert "forbidden" in message
    until(lambda: space.condition("Ready").get("status") == "True", "the workers are as the spec wants them")
    assert {kind for kind in CHILDREN if not space.get(kind, NAME)} == {plural}
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() > 0, "a task brings a worker")
    assert "observedGeneration" not in space.status(), "it moves when the children are applied"
    grant()
    space("annotate", "tq", "orders", "example.com/look=again")
    until(lambda: space.get(plural, NAME), "it is made")
    until(lambda: space.condition("Reconciled").get("status") == "True", "the condition is over")
    assert space.status()["observedGeneration"] == 1


def test_a_forbidden_child_that_pods_read_stops_the_others(
    operators: OperatorProcesses, grant: Grant, space: Space, manifest: Manifest
) -> None:
    grant("/configmaps", "create", "patch")
    operators.start()
    space.apply(manifest)
    assert "configmaps" in told(space, "Reconciled", "Forbidden")
    assert "configmaps" in told(space, "Ready", "Forbidden")
    assert not any(space.get(kind, NAME) for kind in CHILDREN)
    grant()
    space("annotate", "tq", "orders", "example.com/look=again")
    until(lambda: settled(space), "it is ready")


def test_a_number_that_may_not_be_set_is_told_with_the_figures(
    operators: OperatorProcesses,
    grant: Grant,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
) -> None:
    operators.start()
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    grant("apps/deployments", "patch")
    enqueue(redis_server, prefix, 3)
    message = told(space, "ScalingActive", "FailedUpdateScale")
    assert "deployments" in message
    assert "forbidden" in message
    assert space.replicas() == 0
    assert space.status()["totalBacklog"] == 3
    grant()
    until(lambda: space.replicas() > 0, "the number is set at the next poll")
    until(lambda: space.condition("ScalingActive").get("status") == "True", "the condition is over")


def test_a_new_pod_that_may_not_be_admitted_is_told(
    operators: OperatorProcesses, grant: Grant, nodes: ProcessNodes, space: Space, fleet: RealFleet
) -> None:
    grant("/pods/status", "patch")
    operators.start()
    fleet.apply(
        autoscaler={"mode": "Disabled"},
        replicas=1,
        worker={"updateStrategy": {"type": "Drain"}, "drainTimeoutSeconds": 1},
    )
    assert "pods/status" in told(space, "ScalingActive", "FailedUpdateScale")
    grant()
    until(fleet.ready, "it is admitted")
    until(lambda: space.condition("ScalingActive").get("reason") == "Disabled", "the condition is over")


def test_events_that_may_not_be_posted_stop_nothing_and_are_logged_once(
    operators: OperatorProcesses,
    grant: Grant,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
) -> None:
    grant("/events", "create")
    operators.start()
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() > 0, "a task brings a worker")
    purge(redis_server, prefix)
    until(lambda: space.replicas() == 0, "it goes again")
    assert operators.log().count("Events cannot be posted") == 1
    assert "orders: Events cannot be posted" in operators.log()


def test_what_may_not_be_listed_is_named_by_the_probe(
    operators: OperatorProcesses, grant: Grant, space: Space, manifest: Manifest
) -> None:
    grant("/pods", "list")
    port = free_port()
    operators.start("--probe-port", str(port))
    until(lambda: "pods is forbidden" in answer(port), "the probe says why it is not ready")
    grant()
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    assert not answer(port)


def answer(port: int) -> str:
    """What /readyz says of problems; empty when it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return "does not answer yet"
