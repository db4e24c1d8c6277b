"""The pause annotations."""

from __future__ import annotations

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.autoscaler import ScalingOverrides
from taskfleet_operator.overrides import overrides_of


def test_the_annotations_become_overrides() -> None:
    assert overrides_of(False, {"other": "x"}) == ScalingOverrides()
    assert overrides_of(
        True,
        {
            "autoscaling.taskfleet.io/paused": "true",
            "autoscaling.taskfleet.io/paused-replicas": "3",
            "autoscaling.taskfleet.io/paused-scale-in": "false",
            "autoscaling.taskfleet.io/force-activation": "True",
        },
    ) == ScalingOverrides(suspend=True, paused=True, paused_replicas=3, force_activation=True)


@pytest.mark.parametrize(("name", "value"), [("paused", "yes"), ("paused-replicas", "-1"), ("paused-replicas", "few")])
def test_a_value_that_means_nothing_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf'annotations\["autoscaling.taskfleet.io/{name}"\]: expected'):
        overrides_of(False, {f"autoscaling.taskfleet.io/{name}": value})
