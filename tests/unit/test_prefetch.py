"""How many tasks a worker claims ahead of its free slots, and in which order they start."""

from __future__ import annotations

from taskfleet.protocol.claim import CLAIM_ID, Claim
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.selection import Selection, Tier
from taskfleet.runtime.state.tally import Tally

HIGH, LOW, ALSO_LOW = Partition("high"), Partition("low"), Partition("also-low")


def claims(partition: Partition, *ids: str, size: int = 100) -> list[Claim]:
    return [(partition, task_id, bytes(size), 1, 1, None) for task_id in ids]


def one_queue() -> tuple[Prefetch, Tally]:
    tally = Tally()
    return Prefetch(Selection([Tier({LOW: 1.0})]), tally), tally


def measured(prefetch: Prefetch, tally: Tally, *, tasks: int, task_seconds: float) -> None:
    """So many tasks have ended in the second before now."""
    tally.finished += tasks
    tally.task(LOW, "t").run_seconds += tasks * task_seconds
    prefetch.call_took(0.01)
    prefetch.measure(1.0)


def test_nothing_is_claimed_ahead_before_tasks_have_been_measured() -> None:
    assert one_queue()[0].size == 0


def test_short_tasks_are_claimed_ahead_for_the_time_of_three_calls() -> None:
    prefetch, tally = one_queue()
    measured(prefetch, tally, tasks=1000, task_seconds=0.001)
    assert prefetch.size == 33  # 1,000 tasks/s for three calls of 10 ms, and 3 ms


def test_long_tasks_are_not_claimed_ahead() -> None:
    prefetch, tally = one_queue()
    measured(prefetch, tally, tasks=1000, task_seconds=0.06)
    assert prefetch.size == 0


def test_large_payloads_bound_the_number_of_prefetched_tasks() -> None:
    prefetch, tally = one_queue()
    prefetch.add(claims(LOW, "1", size=1_048_576))
    measured(prefetch, tally, tasks=1000, task_seconds=0.001)
    assert prefetch.size == 8  # 8 MiB


def test_tasks_of_a_higher_tier_start_before_those_of_a_lower_one() -> None:
    prefetch = Prefetch(Selection([Tier({HIGH: 1.0}), Tier({LOW: 1.0})]), Tally())
    prefetch.add(claims(LOW, "l1", "l2"))
    prefetch.add(claims(HIGH, "h1"))
    prefetch.add(claims(LOW, "l3"))
    assert [claim[CLAIM_ID] for claim in prefetch.claims] == ["h1", "l1", "l2", "l3"]
    assert (prefetch.count_up_to(0), prefetch.count_up_to(1)) == (1, 4)
    assert prefetch.has_lower_than(0)


def test_tasks_of_one_tier_start_in_turn() -> None:
    prefetch = Prefetch(Selection([Tier({LOW: 1.0, ALSO_LOW: 1.0})]), Tally())
    prefetch.add(claims(LOW, "l1", "l2", "l3", "l4"))
    prefetch.add(claims(ALSO_LOW, "a1", "a2"))
    prefetch.mix()
    assert [claim[CLAIM_ID] for claim in prefetch.claims] == ["l1", "l2", "a1", "l3", "l4", "a2"]
