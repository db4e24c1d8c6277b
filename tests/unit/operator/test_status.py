"""Writing status by merge patch."""

from __future__ import annotations

from taskfleet_operator.control.status_writer import merge_patch


def test_a_removed_field_of_a_nested_mapping_is_null() -> None:
    before = {"replicas": 6, "lastDecision": {"to": 6, "limitedBy": "TooManyReplicas"}, "queues": [1, 2]}
    after = {"replicas": 6, "lastDecision": {"to": 0}, "queues": [1]}
    assert merge_patch(before, after) == {"lastDecision": {"to": 0, "limitedBy": None}, "queues": [1]}


def test_nothing_new_is_an_empty_patch() -> None:
    status = {"replicas": 6, "autoscaler": {"lastDecision": {"to": 6}}}
    assert merge_patch(status, status) == {}
