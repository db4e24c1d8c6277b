"""A busy pod is never taken away: real workers, real tasks, a smaller number."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from e2e.cluster.kubectl import CommandError

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

pytestmark = pytest.mark.timeout(600)


def test_of_twenty_pods_the_five_busy_ones_remain(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=20)
    until(lambda: len(fleet.ready()) == 20, "twenty pods are ready")
    fleet.enqueue(range(5))
    busy = until(lambda: len(found := fleet.busy()) == 5 and found, "five of them are busy")
    fleet("scale", f"tq/{fleet.name}", "--replicas=5")
    until(lambda: len(fleet.pods()) == 5, "five pods remain")
    assert fleet.pods().keys() == busy
    fleet.let_go(range(5))
    until(lambda: len(fleet.journal("end")) == 5, "the tasks have ended")
    fleet.ran_once(range(5))
    assert fleet.pods().keys() == busy


def test_a_busy_pod_whose_heartbeats_stop_is_not_taken_while_its_leases_hold(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    """A frozen node: the pod is not ready, its worker says nothing, and its task goes on afterwards."""
    operators.start()
    fleet.manifest["spec"]["queues"] = [{"name": "default", "leaseSeconds": 300}]
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=3)
    until(lambda: len(fleet.ready()) == 3, "three pods are ready")
    fleet.enqueue([1])
    (busy,) = until(fleet.busy, "one is busy")
    until(lambda: fleet.heartbeats().get(busy), "its heartbeat says so")
    worker = nodes.pid(busy)
    os.kill(worker, signal.SIGSTOP)
    try:
        until(lambda: busy not in fleet.heartbeats(), "its last heartbeat is gone")
        until(lambda: busy not in fleet.ready(), "it is not ready")
        fleet("scale", f"tq/{fleet.name}", "--replicas=1")
        until(lambda: fleet.condition("ScalingLimited").get("reason") == "BusyPodNotReady", "the operator waits for it")
        assert busy in fleet.pods()
        fleet.let_go([1])  # before a worker that was not live for so long is ended
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: fleet.pods().keys() == {busy}, "the idle ones go")
    until(lambda: fleet.journal("end"), "the task has ended")
    fleet.ran_once([1])
    assert not fleet.journal("cut")


def test_a_deployment_that_was_deleted_without_its_pods_is_made_again_around_them(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"minReplicas": 2, "maxReplicas": 2}, worker={"drainTimeoutSeconds": 1})
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    fleet.enqueue(range(2))
    busy = until(lambda: len(found := fleet.busy()) == 2 and found, "two are busy")
    until(lambda: sum(fleet.heartbeats().values()) == 2, "their heartbeats say so")
    fleet.apply(autoscaler={"minReplicas": 0})
    until(lambda: fleet.status().get("replicas", 0) >= 2, "the status counts them")
    before = fleet.deployment()["metadata"]["uid"]
    fleet("delete", "deployment", f"{fleet.name}-worker", "--cascade=orphan", "--wait=false")
    made = until(lambda: (one := fleet.deployment()) and one["metadata"]["uid"] != before and one, "it is made again")
    assert made["spec"]["replicas"] >= 2
    fleet.let_go(range(2))
    until(lambda: len(fleet.journal("end")) == 2, "both tasks have ended")
    fleet.ran_once(range(2))
    assert not fleet.journal("cut")
    assert {pod for pods in fleet.journal("end").values() for pod in pods} == busy


SAFE, DISRUPT = "cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"


def protected(fleet: RealFleet) -> dict[str, dict[str, str]]:
    """The annotations for node autoscalers by pod."""
    found = {name: pod["metadata"].get("annotations", {}) for name, pod in fleet.pods().items()}
    return {
        name: {key: value for key, value in annotations.items() if key in (SAFE, DISRUPT)}
        for name, annotations in found.items()
        if SAFE in annotations or DISRUPT in annotations
    }


def test_a_pod_with_a_long_task_asks_node_autoscalers_to_wait(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2, worker={"evictionProtection": {"afterSeconds": 8}})
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    began = time.monotonic()
    fleet.enqueue([1])
    (busy,) = until(fleet.busy, "one is busy")
    until(lambda: protected(fleet) == {busy: {SAFE: "false", DISRUPT: "true"}}, "it is protected")
    assert time.monotonic() - began > 8, "a short task needs no protection"
    version = fleet.pods()[busy]["metadata"]["resourceVersion"]
    assert fleet.pods()[busy]["metadata"]["resourceVersion"] == version, "nothing is written while nothing changes"
    fleet.let_go([1])
    until(lambda: fleet.journal("end"), "the task has ended")
    until(lambda: not protected(fleet), "the protection ends with it")


def test_an_eviction_is_a_drain_and_the_budget_allows_one_at_a_time(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2)
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    allowed = "disruptionsAllowed"
    until(lambda: fleet.get("pdb", "orders-worker").get("status", {}).get(allowed) == 1, "one may go")
    fleet.enqueue(range(2))
    first, second = until(lambda: len(found := fleet.busy()) == 2 and sorted(found), "both are busy")
    evict(fleet, first)
    with pytest.raises(CommandError, match="disruption budget"):
        evict(fleet, second)
    fleet.let_go(range(2))
    until(lambda: len(fleet.journal("end")) == 2, "both tasks have ended")
    fleet.ran_once(range(2))
    assert set(map(tuple, fleet.journal("end").values())) == {(first,), (second,)}


def evict(fleet: RealFleet, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": fleet.namespace}}
    path = f"/api/v1/namespaces/{fleet.namespace}/pods/{pod}/eviction"
    fleet.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


COST = "controller.kubernetes.io/pod-deletion-cost"


def test_a_busy_pod_that_somebody_else_has_chosen_is_told(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2)
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    fleet.enqueue([1])
    (busy,) = until(fleet.busy, "one is busy")
    # A lower cost than that of the drained pod: now the ReplicaSet controller takes the busy one in its place.
    fleet("annotate", "pod", busy, f"{COST}=-5000")
    fleet("scale", f"tq/{fleet.name}", "--replicas=1")
    told = until(lambda: [one for one in fleet.events() if one["reason"] == "ScaleDownPickedBusyPod"], "it is told")
    (event,) = told
    assert (event["type"], event["message"]) == (
        "Warning",
        f"{busy} was removed, with 1 task running, although it was not drained",
    )
    assert busy not in fleet.pods()
    fleet.let_go([1])
    until(lambda: fleet.journal("end"), "its drain lets the task end")
    fleet.ran_once([1])
