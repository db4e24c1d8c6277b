"""What the drift check takes for a difference in lists whose members have owners."""

from __future__ import annotations

from typing import Any

from taskfleet_operator.control.api.kubernetes_api import OPERATOR
from taskfleet_operator.control.reconciling.drift import is_exact


def live(spec: dict[str, Any], owned: dict[str, Any]) -> dict[str, Any]:
    entry = {"manager": OPERATOR, "operation": "Apply", "fieldsV1": {"f:spec": owned}}
    return {"metadata": {"name": "a", "managedFields": [entry]}, "spec": spec}


def test_two_ports_of_one_number_are_two_members() -> None:
    """The first leaves its protocol to the default, and so has the same number as the second."""
    wanted = [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    owned = {
        'k:{"containerPort":53,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
        'k:{"containerPort":53,"protocol":"UDP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}},
    }
    found = [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]
    body = {"metadata": {"name": "a"}, "spec": {"ports": wanted}}
    assert is_exact(body, live({"ports": found}, {"f:ports": owned}))
    assert not is_exact(body, live({"ports": found[:1]}, {"f:ports": owned}))
