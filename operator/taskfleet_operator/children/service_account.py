"""The ServiceAccount of the workers."""

from __future__ import annotations

from collections.abc import Mapping

from ..resource.taskqueue import TaskQueueResource
from . import names
from .child_kind import Child, ChildKind


def _build(queue: TaskQueueResource, _secrets: Mapping[str, str]) -> Child:
    """Worker pods have no permission in Kubernetes and no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(queue),
        "automountServiceAccountToken": False,
    }


KIND = ChildKind("v1", "ServiceAccount", "serviceaccounts", _build)
