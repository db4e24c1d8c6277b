"""The leases that a worker holds, and tasks of one id in two queues."""

from __future__ import annotations

from taskfleet.protocol import outcome
from taskfleet.protocol.claim import Claim
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.held import Held

A, B = Partition("a"), Partition("b")


def claim(partition: Partition, task_id: str, delivery: int = 1) -> Claim:
    return (partition, task_id, b"", 1, delivery, None)


def returned(task_id: str) -> Outcome:
    return (task_id, 1, outcome.RETURNED, 0, b"", 0, 0)


def test_a_new_delivery_of_the_same_task_replaces_the_old_lease() -> None:
    held = Held()
    assert held.add(A, [claim(A, "1")]) == []
    assert held.add(A, [claim(A, "1", delivery=2)]) == []
    assert not held.has(claim(A, "1"))
    assert held.has(claim(A, "1", delivery=2))


def test_a_task_of_the_same_id_in_another_queue_is_not_held() -> None:
    held = Held()
    held.add(A, [claim(A, "1")])
    namesake = claim(B, "1")
    assert held.add(B, [namesake, claim(B, "2")]) == [namesake]
    assert held == {"1": (A, 1), "2": (B, 1)}


def test_returning_a_namesake_leaves_the_lease_of_the_task_that_is_held() -> None:
    held = Held()
    held.add(A, [claim(A, "1")])
    held.add(B, [claim(B, "1")])
    held.recorded(B, [returned("1")])
    assert held.has(claim(A, "1"))
    held.recorded(A, [returned("1")])
    assert not held


def test_only_the_delivery_whose_lease_was_refused_is_lost() -> None:
    held = Held()
    held.add(A, [claim(A, "old", delivery=2), claim(A, "gone")])
    assert held.lost({"old": 1, "gone": 1, "unknown": 1}) == ["gone"]
