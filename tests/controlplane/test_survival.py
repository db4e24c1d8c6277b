"""What the fleet survives, with real workers: a killed operator, a lost or empty Redis, an HPA, a rotated secret."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import time
from collections.abc import Iterator

import pytest
from e2e.cluster.kubectl import ClusterCommand

from tests.controlplane.test_busy_pods import protected
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)

AT_ONCE = {
    "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 50, "periodSeconds": 1}]}
}


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test, to be paused or emptied."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_fleet(crd: None, kubectl: ClusterCommand, namespace: str, own_redis: RedisServer) -> RealFleet:
    return RealFleet(kubectl, namespace, own_redis)


def test_an_operator_killed_while_it_scales_up_goes_on_where_it_was(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    target = {"backlogPerReplica": 8, "drainSeconds": 10}
    fleet.apply(autoscaler={"maxReplicas": 6, "cooldownSeconds": 300, "target": target})
    until(lambda: fleet.replicas() == 0, "the Deployment is there")
    fleet.enqueue(range(40), seconds=0.5)
    until(lambda: fleet.replicas() > 1, "it scales up")
    operators.kill()
    killed_at = fleet.replicas()
    operators.start()
    until(lambda: len(fleet.journal("end")) == 40, "all tasks have ended")
    fleet.ran_once(range(40))
    numbers = [0, *fleet.replica_changes()]
    assert max(numbers) <= 6
    assert numbers == sorted(numbers), f"no early scale-down: {numbers}"
    assert fleet.replicas() >= killed_at
    deployments = fleet.kubectl.json("get", "deployments", "--namespace", fleet.namespace)["items"]
    assert len(deployments) == 1, "no duplicate"


def test_an_operator_killed_in_the_cooldown_counts_it_from_the_last_task(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"maxReplicas": 2, "cooldownSeconds": 25})
    fleet.enqueue([1], seconds=1)
    until(lambda: fleet.journal("end"), "the task has ended")
    active = until(
        lambda: fleet.status().get("autoscaler", {}).get("lastActiveTime"), "the status has the time of activity"
    )
    operators.kill()
    operators.start()
    until(lambda: fleet.replicas() == 0, "it goes to zero")
    # From what the status says, in whole seconds: when the operator or this test has seen the end, a busy machine says.
    assert time.time() - dt.datetime.fromisoformat(active).timestamp() >= 24, "not before the cooldown was over"


def test_an_operator_killed_in_a_drain_leaves_no_worker_without_work(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=3)
    until(lambda: len(fleet.ready()) == 3, "three pods are ready")
    fleet.enqueue(range(3))
    busy = until(lambda: len(found := fleet.busy()) == 3 and found, "all are busy")
    # A suspended queue drains its busy workers, too.
    fleet("patch", "tq", fleet.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: fleet.cordoned() == busy, "they are cordoned")
    operators.kill()
    fleet("patch", "tq", fleet.name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    operators.start()
    until(lambda: not fleet.cordoned(), "demand is back, and the cordons are lifted")
    assert fleet.pods().keys() == busy
    fleet.enqueue(range(3, 6), seconds=0.1)
    fleet.let_go(range(3))
    until(lambda: len(fleet.journal("end")) == 6, "all tasks have ended")
    fleet.ran_once(range(6))


def test_a_lost_redis_changes_nothing_and_is_back_at_once(
    own_fleet: RealFleet, own_redis: RedisServer, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    fleet = own_fleet
    operators.start()
    fleet.apply(redis={"commandTimeoutSeconds": 1}, autoscaler={"minReplicas": 1, "maxReplicas": 4})
    fleet.enqueue(range(400), seconds=0.25)
    until(lambda: len(fleet.ready()) == 4, "four pods work")
    own_redis.pause()
    lost = time.monotonic()
    until(lambda: fleet.condition("RedisReachable").get("status") == "False", "the status says so")
    assert fleet.condition("ScalingActive")["reason"] == "FailedGetQueueMetrics"
    while time.monotonic() < lost + 15:  # longer than three failed looks, after which a fallback might apply
        assert fleet.replicas() == 4
        time.sleep(0.5)
    own_redis.go_on()
    until(lambda: fleet.condition("RedisReachable").get("status") == "True", "it has recovered", seconds=60)
    until(lambda: len(fleet.journal("end")) == 400, "all tasks have ended")


def test_fewer_are_asked_for_while_redis_is_away_and_no_busy_pod_is_taken(
    own_fleet: RealFleet, own_redis: RedisServer, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    fleet = own_fleet
    operators.start()
    fleet.manifest["spec"]["queues"] = [{"name": "default", "leaseSeconds": 120}]
    shown = {"evictionProtection": {"afterSeconds": 0}}
    fleet.apply(redis={"commandTimeoutSeconds": 1}, autoscaler={"mode": "Disabled"}, replicas=3, worker=shown)
    until(lambda: len(fleet.ready()) == 3, "three pods are ready")
    fleet.enqueue(range(2))
    busy = until(lambda: len(found := fleet.busy()) == 2 and found, "two are busy")
    until(lambda: protected(fleet).keys() == busy, "the operator has seen it")
    own_redis.pause()
    fleet("scale", f"tq/{fleet.name}", "--replicas=1")
    limited = until(
        lambda: (one := fleet.condition("ScalingLimited")).get("reason") == "BusyWorkers" and one, "it waits for leases"
    )
    assert "Redis cannot be read, and 2 workers were busy" in limited["message"]
    assert fleet.replicas() == 3
    own_redis.go_on()
    fleet.let_go(range(2))
    until(lambda: len(fleet.journal("end")) == 2, "both tasks have ended")
    fleet.ran_once(range(2))
    assert not fleet.journal("cut")
    assert {pod for pods in fleet.journal("end").values() for pod in pods} == busy
    until(lambda: len(fleet.pods()) == 1, "one pod remains")


def test_a_redis_that_is_back_empty_takes_no_replica_for_one_down_window(
    own_fleet: RealFleet, own_redis: RedisServer, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    fleet = own_fleet
    operators.start()
    down = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}}}
    fleet.apply(autoscaler={"maxReplicas": 3, "cooldownSeconds": 0, **down})
    fleet.enqueue(range(600), seconds=1)  # more than three pods can do in this test, however slowly they start
    until(lambda: len(fleet.ready()) == 3, "three pods work")
    emptied = time.monotonic()
    own_redis.call("FLUSHALL")
    until(lambda: fleet.replicas() < 3, "it scales down in the end", seconds=150)
    # A window after the last look at the tasks, which a busy machine makes some seconds before.
    assert time.monotonic() - emptied >= 15, "not at once"


def test_an_autoscaler_of_kubernetes_on_the_scale_subresource(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=1)
    until(lambda: len(fleet.ready()) == 1, "one pod is ready")
    busy = {"type": "Utilization", "averageUtilization": 50}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "orders"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "taskfleet.io/v1alpha1", "kind": "TaskQueue", "name": "orders"},
            "minReplicas": 3,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": busy}}],
        },
    }
    fleet("apply", "-f", "-", stdin=json.dumps(hpa))
    until(lambda: len(fleet.ready()) == 3, "the HPA's minimum rules")
    assert fleet.get("tq", "orders")["spec"]["replicas"] == 3
    able = {one["type"]: one["status"] for one in fleet.get("hpa", "orders")["status"]["conditions"]}
    assert able["AbleToScale"] == "True"
    fleet("delete", "hpa", "orders")
    fleet("scale", "tq/orders", "--replicas=2")
    until(lambda: len(fleet.pods()) == 2 and fleet.replicas() == 2, "a person's number rules")


def test_a_rotated_password_loses_no_task(
    namespace: str, crd: None, kubectl: ClusterCommand, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "shop", "on", "~*", "&*", "+@all", ">first")
        fleet = RealFleet(kubectl, namespace, server)

        def secret(password: str) -> None:
            url = server.url.replace("redis://", f"redis://shop:{password}@")
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": {"url": url}}
            fleet("apply", "-f", "-", stdin=json.dumps(body))

        secret("first")
        operators.start()
        fleet.manifest["spec"]["redis"] = {"urlSecretRef": {"name": "redis", "key": "url"}, "keyPrefix": fleet.prefix}
        fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2)
        before = until(lambda: len(found := fleet.ready()) == 2 and found, "two pods are ready")
        fleet.enqueue(range(60), seconds=0.5)
        until(lambda: len(fleet.journal("start")) > 4, "tasks flow")
        server.call("ACL", "SETUSER", "shop", ">second")  # Redis has both passwords during the rotation
        secret("second")
        until(lambda: len(fleet.ready()) == 2 and not fleet.ready() & before, "all pods are new")
        until(lambda: not set(nodes.pods) & before, "the old ones have ended: they know the old password alone")
        server.call("ACL", "SETUSER", "shop", "<first")
        until(lambda: len(fleet.journal("end")) == 60, "all tasks have ended")
        fleet.ran_once(range(60))
        until(lambda: fleet.condition("RedisReachable").get("status") == "True", "the operator has it, too")


def test_a_burst_is_absorbed_with_at_most_two_reversals(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(
        worker={"concurrency": 64},
        autoscaler={"maxReplicas": 5, "cooldownSeconds": 2, "target": {"drainSeconds": 10}, "behavior": AT_ONCE},
    )
    until(lambda: fleet.replicas() == 0, "the Deployment is there")
    fleet.enqueue(range(2000), seconds=0.5)
    most = 0

    def over() -> bool:
        nonlocal most
        most = max(most, fleet.replicas())
        return bool(most) and fleet.replicas() == 0

    until(over, "the burst is over")
    fleet.ran_once(range(2000))
    numbers = [0, *fleet.replica_changes()]
    assert max(numbers) <= 5
    assert most <= 5
    directions = [after > before for before, after in itertools.pairwise(numbers)]
    reversals = sum(one != other for one, other in itertools.pairwise(directions))
    assert reversals <= 2, numbers
