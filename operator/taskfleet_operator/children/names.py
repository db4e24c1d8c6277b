"""Names, labels and ownership that all children share."""

from __future__ import annotations

from typing import Any

from ..resource.taskqueue import API_VERSION, KIND, TaskQueueResource

Child = dict[str, Any]

MANAGED_BY = "taskfleet-operator"
SELECTOR = f"app.kubernetes.io/managed-by={MANAGED_BY}"


def worker_name(queue: TaskQueueResource) -> str:
    """The name of the Deployment and of what surrounds it."""
    return f"{queue.metadata.name}-worker"


def selector(queue: TaskQueueResource) -> dict[str, str]:
    """The labels that tell this TaskQueue's pods from all others; they never change."""
    return {"app.kubernetes.io/name": "taskfleet-worker", "app.kubernetes.io/instance": queue.metadata.name}


def labels(queue: TaskQueueResource) -> dict[str, str]:
    return {
        **selector(queue),
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "taskfleet",
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }


def metadata(queue: TaskQueueResource, name: str) -> dict[str, Any]:
    """Metadata of a child. Without a uid, as in a rendered manifest, there is no owner to point to."""
    found: dict[str, Any] = {"name": name, "labels": labels(queue)}
    if queue.metadata.namespace:
        found["namespace"] = queue.metadata.namespace
    if queue.metadata.uid:
        found["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": queue.metadata.name,
                "uid": queue.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return found
