"""The objects as the watches have shown them: the operator's only memory of the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

Key = tuple[str, str]  # namespace, name of a TaskQueue
Object = Mapping[str, Any]


def key_of(body: Object) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def owner_of(body: Object) -> Key | None:
    """The TaskQueue that a child belongs to, by its labels."""
    metadata = body["metadata"]
    instance = metadata.get("labels", {}).get("app.kubernetes.io/instance")
    return (metadata.get("namespace", ""), instance) if instance else None


class ClusterStore:
    """Objects by key, as of their last event. Events of one object arrive in order."""

    def __init__(self) -> None:
        self.queues: dict[Key, Object] = {}
        self.children: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._pods: dict[Key, dict[str, Object]] = defaultdict(dict)

    def put_queue(self, body: Object, *, deleted: bool) -> Key | None:
        """Keep a TaskQueue.

        Returns its key when it has to be reconciled, which a write of status alone does not require.
        """
        key = key_of(body)
        before = self.queues.get(key)
        _put(self.queues, key, body, deleted)
        same = not deleted and before is not None and _asks_for(before) == _asks_for(body)
        return None if same else key

    @property
    def deployments(self) -> Mapping[Key, Object]:
        return self.children["Deployment"]

    def put_child(self, kind: str, body: Object, *, deleted: bool) -> Key | None:
        """Keep a child. Returns the key of its TaskQueue."""
        owner = owner_of(body)
        if owner is not None and body["metadata"]["name"] == f"{owner[1]}-worker":
            _put(self.children[kind], owner, body, deleted)
            return owner
        return None

    def put_pod(self, body: Object, *, deleted: bool) -> Key | None:
        owner = owner_of(body)
        if owner is not None:
            _put(self._pods[owner], body["metadata"]["name"], body, deleted)
            if not self._pods[owner]:
                del self._pods[owner]
        return owner

    def forget_pod(self, key: Key, name: str) -> None:
        """Drop a pod that no longer exists, before the watch reports it."""
        self._pods.get(key, {}).pop(name, None)

    def pods(self, key: Key) -> dict[str, Object]:
        """The pods of a TaskQueue that are not ending and have not ended."""
        return {
            name: pod
            for name, pod in self._pods.get(key, {}).items()
            if not pod["metadata"].get("deletionTimestamp")
            and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
        }


def _asks_for(body: Object) -> tuple[Any, ...]:
    """The parts of a TaskQueue that the reconciler reads. The generation stands for the spec."""
    metadata = body["metadata"]
    return tuple(metadata.get(name) for name in ("uid", "generation", "annotations", "labels", "deletionTimestamp"))


def _put(objects: dict[Any, Object], key: Any, body: Object, deleted: bool) -> None:
    if deleted:
        objects.pop(key, None)
    else:
        objects[key] = body


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@lru_cache(maxsize=8192)  # the same pods are read at every look
def seconds_of(timestamp: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time. `None` for any other text: a user may have edited it."""
    try:
        return datetime.fromisoformat(str(timestamp).replace("Z", "+00:00")).timestamp() if timestamp else None
    except (ValueError, OverflowError):
        return None
