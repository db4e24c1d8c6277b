"""What only the API server used to see: types, bounds, unknown fields and `null`."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.resource.manifest import parse
from tests.support.manifests import changed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec.autoscaler.minReplicas": "1"}, "spec.autoscaler.minReplicas: must be a whole number, not '1'"),
        ({"spec.autoscaler.minReplicas": True}, "spec.autoscaler.minReplicas: must be a whole number, not true"),
        ({"spec.autoscaler.minReplicas": 1.5}, "spec.autoscaler.minReplicas: must be a whole number, not 1.5"),
        ({"spec.autoscaler.minReplicas": -1}, "spec.autoscaler.minReplicas: must be at least 0, not -1"),
        ({"spec.suspend": "no"}, "spec.suspend: must be true or false, not 'no'"),
        ({"spec.queues.1.weight": 0}, "spec.queues[1].weight: must be at least 1, not 0"),
        ({"spec.queues": None}, "spec.queues: is required"),
        ({"spec.worker.image": "ä" * 1025}, "spec.worker.image: must have at most 1024 characters, not 1025"),
        ({"spec.worker.app": "shop.tasks:queue\n"}, "spec.worker.app: 'shop.tasks:queue\\n' does not match"),
        ({"spec.deletionPolicy": "retain"}, "spec.deletionPolicy: must be one of Retain, Purge, not 'retain'"),
        ({"spec.queues.1.name": "high_priority"}, "spec.queues[1]: every name must be there once"),
        ({"metadata.labels": {"a": 1}}, "metadata.labels.a: must be a string, not 1"),
        ({"metadata.lables": {}}, "metadata.lables: is not a field of the resource"),
        (
            {"spec.autoscaler.maxReplica": 5},
            "spec.autoscaler.maxReplica: is not a field of the resource; did you mean 'maxReplicas'?",
        ),
        ({"spec.xyz": 5}, "spec.xyz: is not a field of the resource; check its spelling"),
        ({"metadata.name": "Orders"}, "metadata.name must be lower-case"),
        ({"metadata.name": None}, "metadata.name: is required"),
    ],
)
def test_a_manifest_is_refused_with_its_field(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(changed(changes), "orders.yaml")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_is_the_default() -> None:
    spec = parse(changed({"spec.autoscaler.pollIntervalSeconds": None, "spec.redis.auth": None}), "orders.yaml").spec
    assert (spec.autoscaler.poll_interval_seconds, spec.redis.auth) == (5, None)
