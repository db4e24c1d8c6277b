"""The Deployment of the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..resource.taskqueue import TaskQueueResource
from . import config_map, names
from .child_kind import Child, ChildKind
from .pod_template import pod_template

HASH_ANNOTATION = "taskfleet.io/config-hash"


def _build(queue: TaskQueueResource, secrets: Mapping[str, str]) -> Child:
    """The Deployment. Its hash covers everything that a worker reads, so that only such a change rolls the pods."""
    template = pod_template(queue)
    read = json.dumps([template, config_map.data(queue), sorted(secrets.items())], sort_keys=True)
    template["metadata"]["annotations"][HASH_ANNOTATION] = hashlib.sha256(read.encode()).hexdigest()[:16]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(queue),
        "spec": {
            "selector": {"matchLabels": names.selector(queue)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling_update(queue)},
            "revisionHistoryLimit": 3,
            "template": template,
        },
    }


def _rolling_update(queue: TaskQueueResource) -> dict[str, Any]:
    strategy = queue.spec.worker.update_strategy
    if strategy.type == "Drain":
        # All new pods start at once. No old one goes before the operator admits a new one in its place.
        return {"maxSurge": "100%", "maxUnavailable": 0}
    update = strategy.rolling_update
    surge, unavailable = ("25%", 0) if update is None else (update.max_surge, update.max_unavailable)
    return {"maxSurge": surge, "maxUnavailable": unavailable}


KIND = ChildKind("apps/v1", "Deployment", "deployments", _build, scaled=True)
