"""Events that wake the control loop of a TaskQueue."""

from __future__ import annotations

from typing import Any, cast

from taskfleet_operator.control.scaler import Fleet
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD


def queue(**metadata: Any) -> TaskQueueResource:
    return TaskQueueResource.model_validate(GOOD | {"metadata": {"name": "orders", **metadata}})


async def test_its_own_status_does_not_wake_it() -> None:
    nothing = cast("Any", None)
    fleet = Fleet(("shop", "orders"), queue(resourceVersion="1"), nothing, nothing, nothing, nothing)
    fleet.update(queue(resourceVersion="2"))
    assert not fleet._wake.is_set()
    fleet.update(queue(resourceVersion="3", annotations={"autoscaling.taskfleet.io/paused": "true"}))
    assert fleet._wake.is_set()
