"""A node with busy workers is lost: no signal, no last heartbeat, and pods that the API server still believes in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

pytestmark = pytest.mark.timeout(400)

LEASE_SECONDS = 12
TASKS = range(4)


@pytest.fixture
def two_nodes(control_plane: Path, namespace: str) -> Iterator[ProcessNodes]:
    with ProcessNodes(control_plane, namespace, [f"a-{namespace}", f"b-{namespace}"]) as running:
        yield running


class Loss:
    """Four busy pods on two nodes, of which one is lost."""

    def __init__(self, fleet: RealFleet, nodes: ProcessNodes) -> None:
        self.fleet = fleet
        self.node = f"a-{fleet.namespace}"
        fleet.manifest["spec"]["queues"] = [{"name": "default", "leaseSeconds": LEASE_SECONDS}]
        # Without a window in which the number only rises, so that each moment of little demand is seen.
        down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
        # No more pods than tasks: Kubernetes takes an idle one that is not ready yet in the place of a drained one.
        number = {"minReplicas": len(TASKS), "maxReplicas": len(TASKS)}
        fleet.apply(autoscaler={"behavior": down, "target": {"processingTimeSeconds": "60"}, **number})
        until(lambda: len(fleet.ready()) == len(TASKS), "four pods are ready")
        fleet.enqueue(TASKS)
        until(lambda: len(fleet.busy()) == len(TASKS), "four pods are busy")
        until(lambda: sum(fleet.heartbeats().values()) == len(TASKS), "their heartbeats say so")
        fleet.apply(autoscaler={"minReplicas": 0})
        self.pods = set(nodes.lose(self.node))
        ends = fleet.redis.call("ZRANGE", f"{fleet.prefix}:{{default}}:lease", 0, -1, "WITHSCORES")[1::2]
        self.first_end = min(map(float, ends)) / 1000
        """When the first lease ends, if nobody renews it (Unix)."""
        started = fleet.journal("start")
        self.tasks = {one for one, where in started.items() if where[-1] in self.pods}
        self.others = {one: where for one, where in started.items() if one not in self.tasks}
        assert self.tasks
        assert self.others, "both nodes had tasks"

    def delete(self) -> None:
        """As an administrator, or a cloud's controller, does when the machine does not come back."""
        self.fleet.kubectl("delete", "node", self.node)
        self.fleet("delete", "pod", *self.pods, "--force", "--grace-period=0", "--ignore-not-found")

    def ends_well(self) -> None:
        """All tasks have ended, those of the lost node in their second run, and the fleet is as it was before."""
        fleet = self.fleet
        fleet.let_go(TASKS)
        until(lambda: fleet.journal("end").keys() == set(TASKS), "all tasks have ended")
        until(lambda: fleet.replicas() == 0 and not fleet.pods(), "the workers are gone")
        until(lambda: fleet.status().get("replicas", 0) == fleet.status().get("readyReplicas", 0) == 0, "it is told")
        started, ended = fleet.journal("start"), fleet.journal("end")
        assert {one: where for one, where in started.items() if one not in self.tasks} == self.others
        assert {one: where for one, where in ended.items() if one not in self.tasks} == self.others
        for one in self.tasks:
            first, second = started[one]
            assert first in self.pods
            assert second not in self.pods
            assert ended[one] == [second]
        assert not fleet.journal("cut"), "no busy pod was taken"
        # An idle pod may go in the place of a drained one: Kubernetes takes a pod that misses its probe before others.
        picked = [one["message"] for one in fleet.events() if one["reason"] == "ScaleDownPickedBusyPod"]
        assert all("with 0 tasks running" in message for message in picked), picked
        numbers = [0, *fleet.replica_changes()]
        ups = [after > before for before, after in pairwise(numbers)]
        assert ups == sorted(ups, reverse=True), f"up, and then down: {numbers}"
        assert until(lambda: fleet.condition("Ready").get("status") == "True", "it is well")


def test_tasks_of_a_lost_node_run_once_more_and_no_other_busy_pod_is_taken(
    fleet: RealFleet, two_nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    loss = Loss(fleet, two_nodes)
    loss.delete()
    until(lambda: all(len(fleet.journal("start")[one]) == 2 for one in loss.tasks), "its tasks run again")
    assert time.time() >= loss.first_end, "a lease holds for as long as it was given"
    assert fleet.replicas() >= len(TASKS), "the lost tasks count as work all the time"
    loss.ends_well()


def test_a_smaller_number_takes_the_pods_of_the_lost_node_and_not_the_busy_ones(
    fleet: RealFleet, two_nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    """Nobody has noticed the loss but Redis: the API server has four ready pods."""
    operators.start()
    loss = Loss(fleet, two_nodes)
    until(lambda: not fleet.heartbeats().keys() & loss.pods, "their last heartbeats are gone")
    assert loss.pods <= fleet.ready(), "the API server believes in them"
    left = fleet.pods().keys() - loss.pods
    fleet.apply(autoscaler={"maxReplicas": len(left)})
    until(lambda: fleet.replicas() == len(left), "the number is lower")
    until(lambda: fleet.pods().keys() == left, "the pods of the lost node are chosen")
    assert fleet.busy() >= left
    loss.delete()
    loss.ends_well()
