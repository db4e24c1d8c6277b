"""Names, labels, ownership and the probe port that all children share."""

from __future__ import annotations

from typing import Any

from ..resource.taskqueue import API_VERSION, KIND, TaskQueueResource

MANAGED_BY = "taskfleet-operator"
PROBE_PORT = 8080
"""The workers' port for probes and metrics."""

SELECTOR = f"app.kubernetes.io/managed-by={MANAGED_BY}"


def worker_name(queue: TaskQueueResource) -> str:
    """The name of every child."""
    return f"{queue.metadata.name}-worker"


def selector(queue: TaskQueueResource) -> dict[str, str]:
    """The labels by which this TaskQueue's pods are found. They never change."""
    return {"app.kubernetes.io/name": "taskfleet-worker", "app.kubernetes.io/instance": queue.metadata.name}


def labels(queue: TaskQueueResource) -> dict[str, str]:
    return {
        **selector(queue),
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "taskfleet",
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }


def metadata(queue: TaskQueueResource) -> dict[str, Any]:
    """Metadata of a child. A rendered manifest has no uid, and so its children have no owner reference."""
    asked = queue.spec.worker.metadata
    found: dict[str, Any] = {"name": worker_name(queue), "labels": {**asked.labels, **labels(queue)}}
    if asked.annotations:
        found["annotations"] = dict(asked.annotations)
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
