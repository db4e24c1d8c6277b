"""Events on the TaskQueue, for `kubectl describe`."""

from __future__ import annotations

import secrets
import time
from typing import Any

from taskfleet import showing

from ..resource.taskqueue import API_VERSION, KIND
from .cluster_store import Object
from .conditions import rfc3339
from .kubernetes_api import OPERATOR


def event(queue: Object | None, reason: str, message: str, *, kind: str = "Normal") -> dict[str, Any] | None:
    """A core/v1 Event, or None when the TaskQueue is gone."""
    if queue is None:
        return None
    metadata = queue["metadata"]
    now = rfc3339(time.time())
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        },
        "reason": reason,
        "message": showing.shown(message, 1000),
        "type": kind,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": OPERATOR},
        "reportingComponent": OPERATOR,
        "reportingInstance": OPERATOR,
    }
