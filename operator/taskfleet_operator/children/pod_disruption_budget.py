"""The PodDisruptionBudget: how many workers a node drain may evict at a time."""

from __future__ import annotations

from collections.abc import Mapping

from ..resource.taskqueue import TaskQueueResource
from . import names
from .child_kind import Child, ChildKind


def _build(queue: TaskQueueResource, _secrets: Mapping[str, str]) -> Child | None:
    budget = queue.spec.worker.pod_disruption_budget
    if budget.mode == "Disabled":
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(queue),
        "spec": {"maxUnavailable": budget.max_unavailable, "selector": {"matchLabels": names.selector(queue)}},
    }


KIND = ChildKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", _build, optional=True, spare=True)
