"""Events on the TaskQueue, for `kubectl describe`."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

from taskfleet import showing

from ..resource.taskqueue import API_VERSION, KIND
from ..scaling.clock import ScalingClock
from .cluster_store import ClusterStore, Key, Object
from .conditions import rfc3339
from .kubernetes_api import OPERATOR, ApiError, KubernetesApi

_REPEATED_SECONDS = 600.0


class EventPoster:
    """Posts Events on one TaskQueue. A repeated one is posted again after ten minutes at the earliest."""

    def __init__(self, key: Key, cluster: KubernetesApi, store: ClusterStore, clock: ScalingClock) -> None:
        self._key = key
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._posted: dict[str, float] = {}

    async def post(self, reason: str, message: str, *, kind: str = "Normal") -> None:
        """Post one. Scaling goes on without an Event that the API server refuses."""
        made = event(self._store.queues.get(self._key), reason, message, kind=kind)
        if made is not None:
            with contextlib.suppress(ApiError, OSError, TimeoutError):
                await self._cluster.create_event(self._key[0], made)

    async def warn(self, reason: str, message: str) -> bool:
        """Post a warning, unless one of this reason was posted in the last ten minutes."""
        now = self._clock.now()
        if now - self._posted.get(reason, float("-inf")) < _REPEATED_SECONDS:
            return False
        self._posted[reason] = now
        await self.post(reason, message, kind="Warning")
        return True


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
