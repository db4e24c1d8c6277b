"""The Kubernetes objects that a TaskQueue becomes: pure functions of the resource, one module for each kind."""

from __future__ import annotations

from collections.abc import Mapping

from ..resource.taskqueue import TaskQueueResource
from . import config_map, deployment, pod_disruption_budget, service, service_account
from .child_kind import Child, ChildKind

KINDS: tuple[ChildKind, ...] = (
    service_account.KIND,
    config_map.KIND,
    service.KIND,
    pod_disruption_budget.KIND,
    deployment.KIND,
)
"""Every kind, in the order in which the reconciler applies them. The Deployment is last: its pods read the others."""


def children_of(queue: TaskQueueResource, secrets: Mapping[str, str] | None = None) -> list[Child]:
    """All objects of one TaskQueue, in the order of `KINDS`. `secrets` is as in `ChildKind`."""
    built = [kind.build(queue, secrets or {}) for kind in KINDS]
    return [child for child in built if child is not None]


__all__ = ["KINDS", "Child", "ChildKind", "children_of"]
