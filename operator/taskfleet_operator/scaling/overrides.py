"""The fields and annotations by which a user overrides the decision. The annotations have KEDA's meaning."""

from __future__ import annotations

from collections.abc import Mapping

from taskfleet.errors import ConfigurationError

from ..autoscaler import ScalingOverrides
from ..resource.taskqueue import TaskQueueResource

PREFIX = "autoscaling.taskfleet.io/"


def overrides_of(resource: TaskQueueResource) -> ScalingOverrides:
    """The overrides in `spec.suspend`, `spec.replicas` and the annotations of a TaskQueue.

    Raises ConfigurationError, which names an annotation with an invalid value.
    """
    spec, annotations = resource.spec, resource.metadata.annotations
    return ScalingOverrides(
        suspend=spec.suspend,
        replicas=1 if spec.replicas is None else spec.replicas,
        paused=_flag(annotations, "paused"),
        paused_replicas=_count(annotations, "paused-replicas"),
        paused_scale_in=_flag(annotations, "paused-scale-in"),
        paused_scale_out=_flag(annotations, "paused-scale-out"),
        force_activation=_flag(annotations, "force-activation"),
    )


def _flag(annotations: Mapping[str, str], name: str) -> bool:
    value = annotations.get(PREFIX + name, "false").strip().lower()
    if value not in {"true", "false"}:
        raise ConfigurationError(f'metadata.annotations["{PREFIX}{name}"]: expected "true" or "false", found {value!r}')
    return value == "true"


def _count(annotations: Mapping[str, str], name: str) -> int | None:
    value = annotations.get(PREFIX + name)
    if value is None:
        return None
    if not value.strip().isdecimal():
        raise ConfigurationError(f'metadata.annotations["{PREFIX}{name}"]: expected a number, found {value!r}')
    return int(value)
