"""`spec.suspend` and the annotations by which a user takes the decision over. They mean what KEDA's mean."""

from __future__ import annotations

from collections.abc import Mapping

from taskfleet.errors import ConfigurationError

from .autoscaler import ScalingOverrides

PREFIX = "autoscaling.taskfleet.io/"


def overrides_of(suspend: bool, annotations: Mapping[str, str]) -> ScalingOverrides:
    """What `spec.suspend` and the annotations of a TaskQueue ask for.

    Raises ConfigurationError that names an annotation whose value means nothing.
    """
    return ScalingOverrides(
        suspend=suspend,
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
