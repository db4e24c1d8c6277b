"""The operator as a process with a real API server and a real Redis. These tests need no running pods."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from e2e.cluster.kubectl import CommandError

from tests.support.operator_space import CHILDREN, Manifest, Space, enqueue, purge, settled, until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer


def test_children_are_created_and_deleted_with_their_taskqueue(
    operator: object, space: Space, manifest: Manifest
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    for kind in CHILDREN:
        child = space.get(kind, "orders-worker")
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("TaskQueue", "orders", True)
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "taskfleet-operator"
    deployment = space.get("deployment", "orders-worker")
    assert deployment["spec"]["replicas"] == 0
    managers = {entry["manager"]: entry["fieldsV1"] for entry in deployment["metadata"]["managedFields"]}
    assert managers["taskfleet-autoscaler"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in managers["taskfleet-operator"]["f:spec"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] == 135
    assert "finalizers" not in space.get("tq", "orders")["metadata"]
    space("delete", "tq", "orders")
    for kind in CHILDREN:
        until(lambda kind=kind: not space.get(kind, "orders-worker"), f"the {kind} is gone", seconds=60)


def test_a_taskqueue_can_be_deleted_without_an_operator(
    operator: subprocess.Popen[bytes], space: Space, manifest: Manifest
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    operator.send_signal(signal.SIGTERM)
    operator.wait(60)
    space("delete", "tq", "orders", "--timeout=20s")
    until(lambda: not space.get("deployment", "orders-worker"), "the Deployment is gone", seconds=60)


def test_a_namespace_with_a_taskqueue_can_be_deleted_without_an_operator(
    operator: subprocess.Popen[bytes], space: Space, manifest: Manifest
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    operator.send_signal(signal.SIGTERM)
    operator.wait(60)
    space.kubectl("delete", "namespace", space.name, "--timeout=90s")
    with pytest.raises(CommandError, match="not found"):
        space.kubectl("get", "namespace", space.name)


@pytest.mark.parametrize(
    ("annotation", "value", "replicas"),
    [
        ("force-activation", "true", 1),
        ("paused", "true", 3),
        ("paused-scale-in", "true", 3),
        ("paused-replicas", "4", 4),
        ("paused-scale-out", "true", 0),
        ("unknown", "true", 0),
    ],
)
def test_every_annotation_of_the_autoscaler_has_its_effect(
    operator: object, space: Space, manifest: Manifest, annotation: str, value: str, replicas: int
) -> None:
    """Three pods of which none is needed: without an annotation they would all go."""
    manifest["metadata"]["annotations"] = {"autoscaling.taskfleet.io/paused-replicas": "3"}
    manifest["spec"]["autoscaler"] = {"cooldownSeconds": 0, "pollIntervalSeconds": 1}
    space.apply(manifest)
    until(lambda: space.replicas() == 3, "three are asked for")
    decided = until(lambda: space.status().get("autoscaler", {}).get("lastDecision"), "the status tells why")
    manifest["metadata"]["annotations"] = {f"autoscaling.taskfleet.io/{annotation}": value}
    space.apply(manifest)
    if replicas == 3:
        condition = "Paused" if annotation == "paused" else "ScalingLimited"
        until(lambda: space.condition(condition).get("status") == "True", "the status tells it")
        assert space.status()["autoscaler"]["lastDecision"] == decided
    until(lambda: space.replicas() == replicas, "the number follows the annotation")


def test_an_edited_field_of_the_operator_is_corrected_and_other_fields_stay(
    operator: object, space: Space, manifest: Manifest
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    patch = {
        "metadata": {"annotations": {"example.com/note": "other"}},
        "spec": {
            "revisionHistoryLimit": 9,
            "minReadySeconds": 7,
            "template": {"spec": {"terminationGracePeriodSeconds": 1}},
        },
    }
    space("patch", "deployment", "orders-worker", "--type=merge", "-p", json.dumps(patch))

    def corrected() -> bool:
        spec = space.get("deployment", "orders-worker")["spec"]
        grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
        return bool((spec["revisionHistoryLimit"], grace) == (3, 135))

    until(corrected, "the operator's value is back")
    deployment = space.get("deployment", "orders-worker")
    assert deployment["spec"]["minReadySeconds"] == 7
    assert deployment["metadata"]["annotations"]["example.com/note"] == "other"
    space("delete", "configmap", "orders-worker")
    manifest["metadata"]["labels"] = {"touched": "yes"}
    space.apply(manifest)
    until(lambda: space.get("configmap", "orders-worker"), "the deleted child is back")


def test_work_scales_up_at_once_and_its_end_scales_to_zero(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    manifest["spec"]["autoscaler"] |= {"pollIntervalSeconds": 600}
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    began = time.monotonic()
    enqueue(redis_server, prefix, 350)
    until(lambda: space.replicas() > 0, "there are replicas")
    print(f"enqueue to replicas: {time.monotonic() - began:.2f} s")
    assert space.replicas() == 4  # 350 waiting / 100 per replica
    decision = until(lambda: space.status().get("autoscaler", {}).get("lastDecision"), "the status says so")
    assert (decision["from"], decision["to"], decision["reason"]) == (0, 4, "BacklogPerReplica")
    wide = space("get", "tq", "orders", "-o", "wide")
    assert "no history yet: 350 waiting / 100 per replica → 4" in wide
    assert "ScaledUp" in until(lambda: _events(space), "the event is there")
    manifest["spec"]["autoscaler"] |= {"pollIntervalSeconds": 1}
    space.apply(manifest)
    purge(redis_server, prefix)
    until(lambda: space.replicas() == 0, "they are gone", seconds=60)
    until(lambda: space.status()["autoscaler"]["lastDecision"]["reason"] == "Idle", "the status tells why")


def _events(space: Space) -> str:
    text = space("describe", "tq", "orders")
    return text if "ScaledUp" in text else ""


def test_nothing_is_written_while_nothing_happens(operator: object, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    names = [("tq", "orders"), *((kind, "orders-worker") for kind in CHILDREN)]

    def versions() -> list[str]:
        return [space.get(kind, name)["metadata"]["resourceVersion"] for kind, name in names]

    # Wait until Kubernetes has settled its objects. After that, a dozen polls must change nothing.
    steady = versions()

    def calm() -> bool:
        nonlocal steady
        before, steady = steady, versions()
        return before == steady

    until(calm, "the objects have settled", seconds=90, pause=5.0)
    time.sleep(12)
    assert versions() == steady


def test_modes_suspend_and_pause(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    manifest["spec"]["autoscaler"]["mode"] = "Recommend"
    enqueue(redis_server, prefix, 350)
    space.apply(manifest)
    until(lambda: space.status().get("desiredReplicas") == 4, "it is recommended")
    assert space.replicas() == 0
    space("scale", "deployment/orders-worker", "--replicas=3")
    until(lambda: space.status().get("replicas") is not None and space.replicas() == 3, "somebody else scales")
    space("patch", "tq", "orders", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: space.replicas() == 0, "suspended, whoever sets the number", seconds=60)
    manifest["spec"]["suspend"] = False
    manifest["spec"]["autoscaler"]["mode"] = "Disabled"
    manifest["spec"]["replicas"] = 3
    space.apply(manifest)
    until(lambda: space.replicas() == 3, "spec.replicas rules")
    space("scale", "tq/orders", "--replicas=5")
    until(lambda: space.replicas() == 5, "the scale subresource rules")
    space("patch", "tq", "orders", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: space.replicas() == 0, "suspended", seconds=60)
    assert until(lambda: space.condition("Paused"), "the status says so")["status"] == "True"
    space(
        "patch", "tq", "orders", "--type=merge", "-p", '{"spec": {"suspend": false, "autoscaler": {"mode": "Managed"}}}'
    )
    space("annotate", "tq", "orders", "autoscaling.taskfleet.io/paused-replicas=2")
    until(lambda: space.replicas() == 2, "paused at two", seconds=60)


def test_redis_down_holds_the_replicas_and_is_a_condition(operator: object, space: Space, manifest: Manifest) -> None:
    port = free_port()
    manifest["spec"]["redis"]["url"] = f"redis://127.0.0.1:{port}/0"
    manifest["spec"]["autoscaler"] |= {"minReplicas": 2}
    space.apply(manifest)
    told = until(
        lambda: space.condition("RedisReachable").get("status") == "False" and space.condition("RedisReachable"),
        "Redis is not reachable",
        seconds=60,
    )
    assert f"cannot reach Redis at 127.0.0.1:{port}: connection refused" in told["message"]
    assert space.replicas() == 2
    assert space.condition("ScalingActive")["reason"] == "FailedGetQueueMetrics"


def test_a_missing_secret_is_named_and_heals(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    manifest["spec"]["redis"] = {"urlSecretRef": {"name": "orders-redis", "key": "url"}, "keyPrefix": prefix}
    space.apply(manifest)
    until(lambda: space.condition("Ready").get("reason") == "SecretMissing", "the status says so")
    assert "secret 'orders-redis' is not there" in space.condition("Ready")["message"]
    space("create", "secret", "generic", "orders-redis", f"--from-literal=url={redis_server.url}")
    until(lambda: space.get("deployment", "orders-worker"), "it heals by itself", seconds=60)
