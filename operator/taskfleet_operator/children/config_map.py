"""The ConfigMap with the options of the queues, which workers read when they start."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..resource.taskqueue import TaskQueueResource
from . import names
from .child_kind import Child, ChildKind

QUEUES_KEY = "queues.json"
"""The key from which the pods get `TASKFLEET_QUEUES`."""


def data(queue: TaskQueueResource) -> dict[str, str]:
    """The content. The Deployment hashes it, so that a change rolls the workers."""
    return {QUEUES_KEY: json.dumps([one.options() for one in queue.spec.queues], sort_keys=True)}


def _build(queue: TaskQueueResource, _secrets: Mapping[str, str]) -> Child:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": names.metadata(queue), "data": data(queue)}


KIND = ChildKind("v1", "ConfigMap", "configmaps", _build)
