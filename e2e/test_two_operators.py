"""Two operators: the one that leads goes, the other acts, and tasks notice nothing."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from tests.support.process_node_fleet import until

from e2e.operator_release import OperatorRelease
from e2e.pod_fleet import PodFleet


@pytest.mark.parametrize(
    ("options", "limit"),
    [((), 3.0), (("--grace-period=0", "--force"), 18.0)],
    ids=["deleted", "deleted by force"],
)
def test_the_standby_follows_the_leader(
    operator: OperatorRelease, fleet: PodFleet, options: tuple[str, ...], limit: float
) -> None:
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2)
    until(lambda: len(fleet.ready()) == 2, "two pods are ready")
    leader = until(operator.leader, "one operator leads")
    until(lambda: len(operator.pods()) == 2, "another stands by")
    fleet.enqueue(range(20), seconds=1)
    until(lambda: fleet.journal("end"), "tasks run")

    deleted = time.time()
    operator.delete_pod(leader, *options)
    follower = until(lambda: (now := operator.leader()) != leader and now, "the other leads")
    # The Lease says when: this process looks too seldom.
    acquired = dt.datetime.fromisoformat(operator.lease()["acquireTime"]).timestamp()
    print(f"{follower} leads {acquired - deleted:.1f} s after {leader} was deleted")
    fleet("scale", "tq/orders", "--replicas=3")
    until(lambda: len(fleet.pods()) == 3, "the other acts")
    assert acquired - deleted <= limit

    fleet.wait_for_the_end(20)
    fleet.ran_once(range(20))
    until(lambda: len(operator.pods()) == 2 and operator.ready(), "two operators again")
