"""Pods that run tasks, on a real node: a smaller number and an eviction take none of them away."""

from __future__ import annotations

from tests.support.process_node_fleet import until

from e2e.pod_fleet import PodFleet


def test_of_six_pods_the_three_busy_ones_remain(fleet: PodFleet) -> None:
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=6)
    until(lambda: len(fleet.ready()) == 6, "six pods are ready")
    fleet.enqueue(range(3))
    busy = until(lambda: len(found := fleet.busy()) == 3 and found, "three of them are busy")
    fleet("scale", "tq/orders", "--replicas=3")
    until(lambda: len(fleet.pods()) == 3, "three pods remain")
    assert fleet.pods().keys() == busy
    fleet.let_go(range(3))
    fleet.wait_for_the_end(3)
    fleet.ran_once(range(3))
    assert fleet.pods().keys() == busy


def test_an_eviction_is_a_drain_and_the_budget_allows_one_at_a_time(fleet: PodFleet) -> None:
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2, worker={"drainTimeoutSeconds": 240})
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    until(lambda: fleet.get("pdb", "orders-worker").get("status", {}).get("disruptionsAllowed") == 1, "one may go")
    fleet.enqueue(range(2))
    first, second = until(lambda: len(found := fleet.busy()) == 2 and sorted(found), "both are busy")
    assert fleet.evict(first)
    assert not fleet.evict(second), "the budget allows one"
    until(lambda: fleet.evict(second), "another pod stands in for the first, and the second may go")
    fleet.let_go(range(2))
    fleet.wait_for_the_end(2)
    fleet.ran_once(range(2))
    assert {pod for (pod,) in fleet.journal("end").values()} == {first, second}
    until(lambda: len(fleet.ready() - {first, second}) == 2, "two others work on")
    fleet.enqueue(range(2, 4), seconds=0.1)
    fleet.wait_for_the_end(4)
