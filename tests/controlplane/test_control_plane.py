"""The control plane itself: the behaviour that the operator's tests rely on."""

from __future__ import annotations

import pytest
from e2e.cluster.kubectl import ClusterCommand, CommandError, wait_until


def test_a_deployment_gets_its_pods(kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("create", "deployment", "shop", "--image=shop", "--replicas=3", "--namespace", namespace)
    wait_until(
        kubectl,
        "wait",
        "--for=jsonpath={.status.replicas}=3",
        "deployment/shop",
        "--timeout=10s",
        "--namespace",
        namespace,
    )
    assert len(kubectl.json("get", "pods", "--namespace", namespace)["items"]) == 3


def test_a_child_of_a_deleted_owner_is_collected(kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("create", "deployment", "shop", "--image=shop", "--namespace", namespace)
    wait_until(
        kubectl,
        "get",
        "replicaset",
        "-l",
        "app=shop",
        "-o",
        "jsonpath={.items[0].metadata.name}",
        "--namespace",
        namespace,
    )
    kubectl("delete", "deployment", "shop", "--namespace", namespace)
    kubectl("wait", "--for=delete", "replicaset,pod", "-l", "app=shop", "--timeout=30s", "--namespace", namespace)


def test_a_failed_command_says_why(kubectl: ClusterCommand, namespace: str) -> None:
    with pytest.raises(CommandError, match="NotFound"):
        kubectl("get", "deployment", "absent", "--namespace", namespace)
