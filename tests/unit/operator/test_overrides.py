"""The pause annotations."""

from __future__ import annotations

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.autoscaler import ScalingOverrides
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from taskfleet_operator.scaling.overrides import overrides_of
from tests.support.manifests import changed


def overrides(annotations: dict[str, str], **spec: object) -> ScalingOverrides:
    fields = {f"spec.{name}": value for name, value in spec.items()}
    return overrides_of(TaskQueueResource.model_validate(changed({"metadata.annotations": annotations, **fields})))


def test_fields_and_annotations_become_overrides() -> None:
    assert overrides({"other": "x"}) == ScalingOverrides()
    assert overrides({}, replicas=0) == ScalingOverrides(replicas=0)
    annotations = {
        "autoscaling.taskfleet.io/paused": "true",
        "autoscaling.taskfleet.io/paused-replicas": "3",
        "autoscaling.taskfleet.io/paused-scale-in": "false",
        "autoscaling.taskfleet.io/force-activation": "True",
    }
    assert overrides(annotations, suspend=True) == ScalingOverrides(
        suspend=True, paused=True, paused_replicas=3, force_activation=True
    )


@pytest.mark.parametrize(("name", "value"), [("paused", "yes"), ("paused-replicas", "-1"), ("paused-replicas", "few")])
def test_a_value_without_meaning_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf'annotations\["autoscaling.taskfleet.io/{name}"\]: expected'):
        overrides({f"autoscaling.taskfleet.io/{name}": value})
