"""Two operators: the one that leads goes, the other acts, and tasks notice nothing."""

from __future__ import annotations

import datetime as dt
import time

from tests.support.process_node_fleet import until

from e2e.operator_release import OperatorRelease
from e2e.pod_fleet import PodFleet

FORCED = ("--grace-period=0", "--force")


def test_the_standby_follows_the_leader(operator: OperatorRelease, fleet: PodFleet) -> None:
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=1)
    until(lambda: len(fleet.ready()) == 1, "a pod is ready")
    fleet.enqueue(range(30), seconds=1)
    until(lambda: fleet.journal("end"), "tasks run")

    # At most 3 s after an order to end and 18 s after a kill, and what a busy machine adds. Without the hand-over it
    # would be 13 s at least.
    assert seconds_to_follow(operator) <= 10.0
    fleet("scale", "tq/orders", "--replicas=2")
    until(lambda: len(fleet.pods()) == 2, "the other acts")

    assert seconds_to_follow(operator, *FORCED) <= 30.0
    fleet("scale", "tq/orders", "--replicas=3")
    until(lambda: len(fleet.pods()) == 3, "the other acts")

    fleet.wait_for_the_end(30)
    fleet.ran_once(range(30))


def seconds_to_follow(operator: OperatorRelease, *options: str) -> float:
    """Delete the pod that leads, and wait until the other does."""
    until(operator.ready, "another stands by")
    leader = until(operator.leader, "one operator leads")
    deleted = time.time()
    operator.delete_pod(leader, *options)
    follower = until(lambda: (now := operator.leader()) != leader and now, "the other leads")
    # The Lease says when: this process looks too seldom.
    took = dt.datetime.fromisoformat(operator.lease()["acquireTime"]).timestamp() - deleted
    print(f"{follower} leads {took:.1f} s after {leader} was deleted")
    return took
