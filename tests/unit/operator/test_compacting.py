"""Stored objects: equal to what came, with what many have in common once in memory."""

from __future__ import annotations

import copy
import json
from typing import Any

from taskfleet_operator.control.store.compacting import compacted


def deployment(name: str) -> dict[str, Any]:
    """One that was parsed by itself, as from an event."""
    uid = f"uid-{name}"
    owned = {
        "f:metadata": {"f:labels": {"f:app": {}}, "f:ownerReferences": {f'k:{{"uid":"{uid}"}}': {}}},
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"worker"}': {".": {}, "f:image": {}}}}}},
    }
    body = {
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "uid": uid,
            "ownerReferences": [{"uid": uid, "controller": True}],
            "managedFields": [{"manager": "taskfleet-operator", "fieldsV1": owned}, {"manager": "kubectl"}],
        },
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "worker", "args": ["x" * 100]}]}}},
    }
    parsed: dict[str, Any] = json.loads(json.dumps(body))
    return parsed


def test_an_object_is_kept_as_it_came() -> None:
    body = deployment("orders")
    assert compacted(copy.deepcopy(body)) == body
    plain = {"metadata": {"name": "orders"}, "spec": None, "items": [1, 2.5, True, "a"]}
    assert compacted(copy.deepcopy(plain)) == plain


def test_what_many_have_in_common_is_in_memory_once() -> None:
    one, other = (compacted(deployment(name)) for name in ("orders", "payments"))
    first, second = (body["metadata"]["managedFields"][0]["fieldsV1"] for body in (one, other))
    assert first["f:spec"] is second["f:spec"]
    assert first["f:metadata"]["f:labels"] is second["f:metadata"]["f:labels"]
    assert first["f:metadata"]["f:ownerReferences"] != second["f:metadata"]["f:ownerReferences"]
    assert next(iter(one)) is next(iter(other)), "the names of fields"
    assert one["kind"] is other["kind"]
