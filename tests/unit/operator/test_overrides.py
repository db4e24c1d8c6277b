"""The pause annotations."""

from __future__ import annotations

import pytest

from taskfleet_operator.autoscaler import ScalingOverrides
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from taskfleet_operator.scaling.overrides import are_children_left_alone, misread, overrides_of
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


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("paused", "yes-please", ScalingOverrides(paused=True)),
        ("paused", "", ScalingOverrides(paused=True)),
        ("paused-scale-in", "on", ScalingOverrides(paused_scale_in=True)),
        ("paused-scale-out", "2", ScalingOverrides(paused_scale_out=True)),
        ("force-activation", "yes", ScalingOverrides(force_activation=True)),
        ("paused-replicas", "-1", ScalingOverrides(paused=True)),
        ("paused-replicas", "few", ScalingOverrides(paused=True)),
        ("paused-replicas", "٣", ScalingOverrides(paused=True)),
        ("paused-replicas", "9" * 5000, ScalingOverrides(paused=True)),
    ],
)
def test_a_value_without_meaning_is_named_and_read_as_keda_reads_it(
    name: str, value: str, read: ScalingOverrides
) -> None:
    annotations = {f"autoscaling.taskfleet.io/{name}": value}
    assert overrides(annotations) == read
    (said,) = misread(annotations)
    assert said.startswith(f'metadata.annotations["autoscaling.taskfleet.io/{name}"]: expected ')


@pytest.mark.parametrize("value", ["1", "t", "TRUE", " true ", "0", "f", "False"])
def test_a_boolean_in_any_of_its_forms_is_meant(value: str) -> None:
    annotations = {"autoscaling.taskfleet.io/paused": value}
    assert misread(annotations) == []
    assert overrides(annotations).paused is (value.strip().lower() in {"1", "t", "true"})


@pytest.mark.parametrize(
    ("value", "left", "told"),
    [
        ("disabled", True, False),
        (" Disabled", True, False),
        ("enabled", False, False),
        ("off", False, True),
        ("", False, True),
        ("yes-please", False, True),
    ],
)
def test_a_switch_of_reconciling_without_meaning_is_named_and_has_no_effect(value: str, left: bool, told: bool) -> None:
    annotations = {"taskfleet.io/reconcile": value}
    assert are_children_left_alone(annotations) is left
    assert bool(misread(annotations)) is told
    assert all("it has no effect" in said for said in misread(annotations))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("autoscaling.taskfleet.io/pause", "autoscaling.taskfleet.io/paused"),
        ("autoscaling.taskfleet.io/Paused-Replicas", "autoscaling.taskfleet.io/paused-replicas"),
        ("taskfleet.io/paused-scale-in", "autoscaling.taskfleet.io/paused-scale-in"),
        ("taskfleet.io/reconciles", "taskfleet.io/reconcile"),
        ("scaling.taskfleet.io/paused", "autoscaling.taskfleet.io/paused"),
        ("taskfleet.io/colour", ""),
    ],
)
def test_a_name_that_is_none_of_ours_is_told_and_has_no_effect(name: str, near: str) -> None:
    assert overrides({name: "true"}) == ScalingOverrides()
    (said,) = misread({name: "true"})
    meant = f"; did you mean {near!r}?" if near else ""
    assert said == f'metadata.annotations["{name}"]: there is no such annotation, it has no effect{meant}'


def test_thousands_of_such_names_are_counted() -> None:
    many = {f"taskfleet.io/paused-replica{number:04}": "" for number in range(8000)}
    said = misread({**many, "autoscaling.taskfleet.io/paused": "maybe"})
    assert len(said) < 10
    assert said[0].startswith('metadata.annotations["autoscaling.taskfleet.io/paused"]')
    assert said[-1] == "metadata.annotations: 7995 more of taskfleet.io do not exist"


@pytest.mark.parametrize("name", ["taskfleet.io.example.com/x", "example.com/taskfleet.io", "mytaskfleet.io/paused"])
def test_annotations_of_others_are_not_ours(name: str) -> None:
    assert misread({name: "yes-please", "taskfleet.io/abandon-purge": "true"}) == []
