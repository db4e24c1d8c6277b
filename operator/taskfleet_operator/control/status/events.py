"""Events on the TaskQueue, for `kubectl describe`."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from taskfleet import showing

from ...resource.taskqueue import API_VERSION, KIND
from ...scaling.clock import ScalingClock
from ..api.kubernetes_api import OPERATOR, ApiError, KubernetesApi
from ..store.cluster_store import ClusterStore, Key, Object
from .conditions import rfc3339

logger = showing.logger("taskfleet.operator")

_REPEATED_SECONDS = 600.0
_MOST_AT_ONCE = 20
_ATTEMPTS, _PAUSE_SECONDS = 4, 20.0
_TOLD = ("Ready", "Reconciled", "SpecValid")
_PASSING = frozenset({"WorkersNotReady", "ReconcileDisabled", "RolloutWaits", "ChildIsEnding", "Conflict"})
"""Reasons that a condition has in the course of things, or by a user's wish."""


class EventPoster:
    """Posts Events on the TaskQueue of one uid (None: that of the name), in the background.

    A warning is repeated after ten minutes at the earliest. When a Redis is lost that a thousand TaskQueues use, their
    status is written first, and the Events follow.
    """

    def __init__(
        self, key: Key, uid: str | None, cluster: KubernetesApi, store: ClusterStore, clock: ScalingClock
    ) -> None:
        self._key = key
        self._uid = uid
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._warned: dict[str, float] = {}
        self._posting: set[asyncio.Task[None]] = set()
        self._refused = False

    def post(self, reason: str, message: str, *, kind: str = "Normal") -> None:
        """Post one. While the API server is so slow that many are on their way, it is dropped."""
        queue = self._store.queues.get(self._key)
        if queue is None or self._uid not in (None, queue["metadata"].get("uid")):
            return  # it is gone, and what is there under its name is another one
        made = event(queue, reason, message, kind=kind)
        if len(self._posting) < _MOST_AT_ONCE:
            task = asyncio.ensure_future(self._post(made))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    def warn(self, reason: str, message: str) -> bool:
        """Post a warning, unless one of this reason was posted in the last ten minutes."""
        now = self._clock.now()
        if now - self._warned.get(reason, float("-inf")) < _REPEATED_SECONDS:
            return False
        self._warned[reason] = now
        self.post(reason, message, kind="Warning")
        return True

    def close(self) -> list[asyncio.Task[None]]:
        """What is on its way."""
        return list(self._posting)

    async def _post(self, made: dict[str, Any]) -> None:
        for left in reversed(range(_ATTEMPTS)):
            try:
                await self._cluster.create_event(self._key[0], made)
                self._refused = False
                return
            except (ApiError, OSError, TimeoutError) as error:  # an Event that is refused stops nothing
                if not left or not (isinstance(error, ApiError) and error.passes):
                    if not self._refused:
                        logger.warning("%s/%s: Events cannot be posted: %s", *self._key, error)
                    self._refused = True
                    return
            await asyncio.sleep(_PAUSE_SECONDS * (0.5 + random.random()))


def warnings_of(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Reason and message of each condition that has become bad, or is bad for another reason; no message twice."""
    known = {(one.get("type"), one.get("status"), one.get("reason")) for one in before}
    news = {one["type"]: one for one in after if (one["type"], one["status"], one["reason"]) not in known}
    found: dict[str, str] = {}
    for one in (news[kind] for kind in _TOLD if kind in news):
        if one["status"] == "False" and one["reason"] not in _PASSING:
            found.setdefault(one["message"], one["reason"])
    return [(reason, message) for message, reason in found.items()]


def event(queue: Object, reason: str, message: str, *, kind: str = "Normal") -> dict[str, Any]:
    """A core/v1 Event."""
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
