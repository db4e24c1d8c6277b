from __future__ import annotations

import pytest

from taskfleet import ConfigurationError, TaskQueue
from taskfleet.protocol.partitions import partition_name
from taskfleet.runtime.state.selection import Selection, Tier, tiers_of


def test_tiers_follow_priorities_and_named_weights_make_one_tier() -> None:
    queue = TaskQueue(queues=[{"name": "a", "priority": 1}, {"name": "b", "priority": 9, "weight": 2}, {"name": "c"}])
    assert [tier.weights for tier in tiers_of(queue.application, None)] == [{"b": 2}, {"a": 1}, {"c": 1}]
    assert [tier.weights for tier in tiers_of(queue.application, ["c", "a"])] == [{"a": 1}, {"c": 1}]
    assert [tier.weights for tier in tiers_of(queue.application, ["a:6", "c:3"])] == [{"a": 6, "c": 3}]
    assert [tier.weights for tier in tiers_of(queue.application, ["sync:info"])] == [{"sync:info": 1}]
    for item in ("a:0", "a:1000000000", f"a:{'9' * 5000}"):
        with pytest.raises(ConfigurationError, match="queue 'a': weight"):
            tiers_of(queue.application, [item])
    with pytest.raises(ConfigurationError, match="named twice"):
        tiers_of(queue.application, ["a:1", "a:2"])


def test_a_known_name_is_a_queue_and_not_another_with_a_weight() -> None:
    queue = TaskQueue(queues=[{"name": "tenant:42", "priority": 3}, "tenant"])
    assert [tier.weights for tier in tiers_of(queue.application, ["tenant:42"])] == [{"tenant:42": 1}]
    assert [tier.weights for tier in tiers_of(queue.application, ["tenant:42", "tenant"])] == [
        {"tenant:42": 1},
        {"tenant": 1},
    ]
    assert [tier.weights for tier in tiers_of(queue.application, ["tenant:42:5", "tenant:7"])] == [
        {"tenant:42": 5, "tenant": 7}
    ]


def test_only_partitions_of_its_own_queues_are_added() -> None:
    selection = Selection([Tier({"a": 3}), Tier({"b": 1})])
    assert [name for name in ("c", "c/1", "a", "a/1", "a/1", "b/2", "a:1/1") if selection.add(name)] == ["a/1", "b/2"]
    assert [tier.weights for tier in selection.tiers] == [{"a": 3, "a/1": 3}, {"b": 1, "b/2": 1}]


def test_shares_follow_weights_over_time_and_starve_no_queue() -> None:
    tier = Tier({"a": 9, "b": 1})
    selection = Selection([tier])
    total = {"a": 0, "b": 0}
    for _ in range(1000):
        for name, slots in selection.shares(tier, 1, 0.0).items():
            total[name] += slots
    assert sum(total.values()) == 1000
    assert 80 <= total["b"] <= 120


def test_a_queue_without_work_leaves_its_share_to_the_others() -> None:
    tier = Tier({"a": 1, "b": 1})
    selection = Selection([tier])
    selection.seen("b", 0, None, 0.0)
    assert selection.shares(tier, 10, 0.0) == {"a": 10}
    selection.seen("a", 0, 5.0, 0.0)
    assert not selection.hot(1.0)
    assert selection.next_event(1.0) == pytest.approx(4.001)
    assert selection.shares(tier, 10, 6.0) == {"a": 10}
    selection.make_hot("b")
    assert selection.shares(tier, 10, 1.0) == {"b": 10}


@pytest.mark.parametrize("queues", [20, 100, 1000])
def test_no_more_is_claimed_at_once_than_there_is_room_for_though_most_queues_are_empty(queues: int) -> None:
    tier = Tier({partition_name(f"queue-{n}", 0): 1 for n in range(queues)})
    selection = Selection([tier])
    asked: set[str] = set()
    while selection.hot(0.0):
        shares = {name: slots for name, slots in selection.shares(tier, 10, 0.0).items() if slots}
        assert 1 <= sum(shares.values()) <= 10
        for name in shares:
            selection.seen(name, 0, None, 0.0)
        asked |= shares.keys()
    assert len(asked) == queues
