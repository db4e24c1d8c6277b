"""Which children are in line, and what becomes of a correction that does not last."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from taskfleet_operator.children import KINDS
from taskfleet_operator.control.reconciling.applying import Change
from taskfleet_operator.control.reconciling.corrections import Corrections
from taskfleet_operator.control.reconciling.drift import changed_fields, is_exact

KEY = ("shop", "orders")
SERVICE = next(kind for kind in KINDS if kind.kind == "Service")
WANTED: dict[str, Any] = {
    "metadata": {"name": "orders-worker", "namespace": "shop"},
    "spec": {"args": ["a"], "selector": {"x": "1"}},
}
FIELDS: dict[str, Any] = {"f:spec": {"f:args": {}, "f:selector": {}}}


def live(fields: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    entries = [{"manager": "taskfleet-operator", "operation": "Apply", "fieldsV1": fields or FIELDS}]
    entries.append({"manager": "gitops", "operation": "Apply", "fieldsV1": {}, "time": "2026-11-25T10:00:00Z"})
    whole = {**copy.deepcopy(WANTED["spec"]), "default": True, **spec}
    return {"metadata": {"name": "orders-worker", "uid": "u", "managedFields": entries}, "spec": whole}


def at_version(version: str, **spec: Any) -> dict[str, Any]:
    body = live(**spec)
    body["metadata"]["resourceVersion"] = version
    return body


def change(body: dict[str, Any]) -> Change:
    return Change(SERVICE, WANTED, body)


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        ({}, True),
        ({"another": 3}, True),
        ({"args": ["a", "b"]}, False),
        ({"args": []}, False),
        ({"selector": {"x": "1", "y": "2"}}, False),
        ({"selector": {}}, False),
    ],
)
def test_a_value_that_is_ours_as_a_whole_is_compared_as_a_whole(spec: dict[str, Any], exact: bool) -> None:
    assert is_exact(WANTED, live(**spec)) is exact


def test_a_field_of_ours_that_is_no_longer_wanted_is_drift() -> None:
    assert not is_exact(WANTED, live({"f:spec": {"f:args": {}, "f:selector": {}, "f:default": {}}}))


def test_a_field_that_somebody_else_has_taken_is_drift() -> None:
    assert not is_exact(WANTED, live({"f:spec": {"f:args": {}}}))


def test_members_of_others_are_none_of_ours() -> None:
    wanted = {"metadata": {}, "spec": {"env": [{"name": "A", "value": "1"}]}}
    fields: dict[str, Any] = {"f:spec": {"f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}}
    theirs = {"name": "B", "value": "2"}
    assert is_exact(wanted, live(fields, env=[theirs, {"name": "A", "value": "1"}]))
    assert not is_exact(wanted, live(fields, env=[theirs, {"name": "A", "value": "9"}]))
    assert not is_exact(wanted, live(fields, env=[theirs]))


def test_what_a_webhook_makes_of_the_apply_is_in_line() -> None:
    corrections = Corrections()
    changed = live(args=["a", "--injected"])
    assert not corrections.is_in_line(KEY, change(changed))
    assert corrections.is_unchanged(KEY, change(changed), changed)  # the dry run says so, once
    assert corrections.is_in_line(KEY, change(changed))
    assert not corrections.is_in_line(KEY, change(live(args=["b"])))


def test_a_correction_that_does_not_last_is_given_up_for_a_while() -> None:
    now = 0.0
    corrections = Corrections(lambda: now)
    corrections.written(KEY, change(live()), live())
    drifted = change(live(args=["z"]))
    for _ in range(5):
        assert not corrections.is_in_line(KEY, drifted)
        assert not corrections.is_unchanged(KEY, drifted, live())
        corrections.written(KEY, drifted, live())
        now += 1
    assert corrections.quarrels(KEY) == []
    assert corrections.is_unchanged(KEY, drifted, live())
    (said,) = corrections.quarrels(KEY)
    assert said.startswith(
        "Service 'orders-worker': spec.args[0] was put back 5 times and is changed again by 'gitops'"
    )
    assert corrections.is_in_line(KEY, change(live()))  # somebody has put it back
    assert corrections.quarrels(KEY) == []
    assert corrections.is_unchanged(KEY, drifted, live())
    now += 600
    assert not corrections.is_unchanged(KEY, drifted, live())
    corrections.written(KEY, drifted, live())
    assert corrections.quarrels(KEY) == []
    corrections.forget(KEY)
    assert corrections.is_in_line(KEY, change(live()))


def test_a_look_at_what_was_there_before_the_last_write_counts_no_correction() -> None:
    """The watch lags behind: until it shows the write, the drift that it shows has been put back already."""
    now = 0.0
    corrections = Corrections(lambda: now)
    drifted = at_version("9", args=["z"])
    corrections.written(KEY, change(drifted), at_version("10"))
    for _ in range(20):
        assert corrections.is_in_line(KEY, change(drifted))
    assert corrections.is_in_line(KEY, change(at_version("10")))
    again = at_version("11", args=["z"])
    for _ in range(5):
        assert not corrections.is_in_line(KEY, change(again))
        assert not corrections.is_unchanged(KEY, change(again), live())
    assert not corrections.is_in_line(KEY, change(again))
    assert corrections.is_unchanged(KEY, change(again), live())
    assert corrections.quarrels(KEY)
    assert corrections.is_in_line(KEY, change(drifted))
    assert corrections.quarrels(KEY), "an old look does not end a quarrel"


def test_a_change_of_the_spec_waits_for_no_watch() -> None:
    corrections = Corrections()
    corrections.written(KEY, change(live()), at_version("10"))
    wanted = {**WANTED, "spec": {"args": ["b"], "selector": {"x": "1"}}}
    assert not corrections.is_in_line(KEY, Change(SERVICE, wanted, at_version("9")))


def test_an_api_server_with_a_restored_backup_is_believed_after_a_while() -> None:
    now = 0.0
    corrections = Corrections(lambda: now)
    corrections.written(KEY, change(live()), at_version("1000"))
    drifted = at_version("20", args=["z"])
    assert corrections.is_in_line(KEY, change(drifted))
    now += 30
    assert not corrections.is_in_line(KEY, change(drifted))


def test_replicas_are_nobodys_drift() -> None:
    deployment = next(kind for kind in KINDS if kind.scaled)
    corrections = Corrections()
    one, other = live(args=["b"], replicas=1), live(args=["b"], replicas=2)
    assert corrections.is_unchanged(KEY, Change(deployment, WANTED, one), one)
    assert corrections.is_in_line(KEY, Change(deployment, WANTED, other))


def test_a_field_that_the_cluster_changes_is_named_until_it_no_longer_does() -> None:
    corrections = Corrections()
    asked = change(live())
    corrections.written(KEY, asked, live(args=["b"], selector={"x": "1", "y": "2"}))
    assert corrections.changes(KEY) == ["Service spec.args[0]"]
    corrections.written(KEY, asked, live())
    assert corrections.changes(KEY) == []


def test_changed_fields_are_found_beside_what_others_have_added() -> None:
    wanted = {"spec": {"containers": [{"name": "worker", "image": "a", "cpu": "1000m"}], "gone": 1}}
    found = {"spec": {"containers": [{"name": "mesh"}, {"name": "worker", "image": "b", "cpu": "1"}], "default": True}}
    assert [*changed_fields(wanted, found)] == ["spec.containers[worker].image", "spec.gone"]
    assert [*changed_fields(wanted, {"spec": {"containers": []}})] == [
        "spec.containers[worker].name",
        "spec.containers[worker].image",
        "spec.containers[worker].cpu",
        "spec.gone",
    ]
