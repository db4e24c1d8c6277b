"""The fields and annotations by which a user overrides the decision. The annotations have KEDA's meaning.

So has a value that is none of theirs: who writes `paused: yes-please` wants a pause. It is told in a condition.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from ..autoscaler import ScalingOverrides
from ..resource.taskqueue import TaskQueueResource

PREFIX = "autoscaling.taskfleet.io/"
RECONCILE = "taskfleet.io/reconcile"
ABANDON_PURGE = "taskfleet.io/abandon-purge"
_OURS = re.compile(r"(?:.+\.)?taskfleet\.io/.*", re.DOTALL)
_PAUSED, _PAUSED_REPLICAS = "paused", "paused-replicas"
_FLAGS = (_PAUSED, "paused-scale-in", "paused-scale-out", "force-activation")
_KNOWN = (*(PREFIX + name for name in (*_FLAGS, _PAUSED_REPLICAS)), RECONCILE, ABANDON_PURGE)
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}
_COUNT = re.compile(r"[0-9]{1,5}")
_MOST_TOLD = 5  # an object has room for thousands, and looking for the one that was meant takes time


def overrides_of(resource: TaskQueueResource) -> ScalingOverrides:
    """The overrides in `spec.suspend`, `spec.replicas` and the annotations of a TaskQueue."""
    spec, annotations = resource.spec, resource.metadata.annotations
    count = annotations.get(PREFIX + _PAUSED_REPLICAS)
    number = _number(count)
    return ScalingOverrides(
        suspend=spec.suspend,
        replicas=1 if spec.replicas is None else spec.replicas,
        # Without a number that can be read, the number that is there is the one to pause at.
        paused=_flag(annotations, _PAUSED) or (count is not None and number is None),
        paused_replicas=number,
        paused_scale_in=_flag(annotations, "paused-scale-in"),
        paused_scale_out=_flag(annotations, "paused-scale-out"),
        force_activation=_flag(annotations, "force-activation"),
    )


def are_children_left_alone(annotations: Mapping[str, str]) -> bool:
    return _plain(annotations.get(RECONCILE, "")) == "disabled"


def misread(annotations: Mapping[str, str]) -> list[str]:
    """The annotations of ours whose name or value has no meaning, each with how it is read."""
    found = [
        f'metadata.annotations["{PREFIX}{name}"]: expected "true" or "false", found {value!r}; read as "true"'
        for name in _FLAGS
        if (value := annotations.get(PREFIX + name)) is not None and _plain(value) not in _TRUE | _FALSE
    ]
    count = annotations.get(PREFIX + _PAUSED_REPLICAS)
    if count is not None and _number(count) is None:
        field = f'metadata.annotations["{PREFIX}{_PAUSED_REPLICAS}"]'
        found.append(f"{field}: expected a number up to 99999, found {count!r}; paused at the present number")
    left = annotations.get(RECONCILE)
    if left is not None and _plain(left) not in ("disabled", "enabled"):
        found.append(f'metadata.annotations["{RECONCILE}"]: expected "disabled", found {left!r}; it has no effect')
    unknown = sorted(name for name in annotations if name not in _KNOWN and _OURS.fullmatch(name))
    for name in unknown[:_MOST_TOLD]:
        near = difflib.get_close_matches(name, _KNOWN, 1, 0.8)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        found.append(f'metadata.annotations["{name}"]: there is no such annotation, it has no effect{meant}')
    if more := unknown[_MOST_TOLD:]:
        found.append(f"metadata.annotations: {len(more)} more of taskfleet.io do not exist")
    return found


def _flag(annotations: Mapping[str, str], name: str) -> bool:
    value = annotations.get(PREFIX + name)
    return value is not None and _plain(value) not in _FALSE


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and _COUNT.fullmatch(value := value.strip()) else None


def _plain(value: str) -> str:
    return value.strip().lower()
