"""Changes of a TaskQueue that wake its control loop."""

from __future__ import annotations

from typing import Any, cast

from taskfleet_operator.control.kubernetes_fleet import KubernetesFleet
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD


def queue(**metadata: Any) -> TaskQueueResource:
    return TaskQueueResource.model_validate(GOOD | {"metadata": {"name": "orders", **metadata}})


def test_its_own_status_is_no_news() -> None:
    nothing = cast("Any", None)
    fleet = KubernetesFleet(("shop", "orders"), queue(resourceVersion="1"), nothing, nothing, nothing)
    assert not fleet.update(queue(resourceVersion="2"))
    assert fleet.update(queue(resourceVersion="3", annotations={"autoscaling.taskfleet.io/paused": "true"}))
    assert fleet.order().overrides.paused
