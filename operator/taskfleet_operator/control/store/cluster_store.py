"""The objects as the informers have shown them: the operator's only memory of the cluster.

Objects are kept by uid and found by their owner's uid, so that neither a label that somebody edits nor an earlier
object of the same name leads to a wrong one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from ...resource.taskqueue import GROUP, KIND

Key = tuple[str, str]  # namespace, name of a TaskQueue
Object = Mapping[str, Any]

QUEUE, DEPLOYMENT, REPLICA_SET, POD = KIND, "Deployment", "ReplicaSet", "Pod"

_NONE: Mapping[str, Object] = {}


def key_of(body: Object) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def controller_of(body: Object) -> Object | None:
    """The owner reference of the object's controller."""
    references: Iterable[Object] = body["metadata"].get("ownerReferences") or ()
    return next((reference for reference in references if reference.get("controller")), None)


class ClusterStore:
    """The TaskQueues, their children, and the ReplicaSets and pods of their Deployments.

    `put`, `remove` and `replace` return the keys of the TaskQueues that a change concerns. Changes of one kind arrive
    in order; those of different kinds do not, so that a child may be there before its owner.
    """

    def __init__(self) -> None:
        self.queues: dict[Key, Object] = {}
        self.children: Mapping[str, Children] = _ChildrenOfKinds(self)
        self.synced = False
        """Whether every informer has listed its objects: what is not in the store is not in the cluster."""
        self._objects: dict[str, dict[str, Object]] = defaultdict(dict)  # by kind and uid
        self._owned: dict[str, dict[str, dict[str, Object]]] = defaultdict(dict)  # by kind, controller's uid, and name

    @property
    def deployments(self) -> Mapping[Key, Object]:
        return self.children[DEPLOYMENT]

    def put(self, kind: str, body: Object) -> set[Key]:
        """Keep an object as it is now.

        A TaskQueue's own key is not returned after a write of status alone, which does not require a reconcile.
        """
        uid = body["metadata"]["uid"]
        before = self._objects[kind].get(uid)
        if before is not None and _is_same(before, body):
            return set()  # listed again
        self._objects[kind][uid] = body
        if kind == QUEUE:
            self.queues[key_of(body)] = body
            return set() if before is not None and _asks_for(before) == _asks_for(body) else {key_of(body)}
        concerned = self._unlink(kind, before) if before is not None else set[Key]()
        if controller := controller_of(body):
            self._owned[kind].setdefault(controller["uid"], {})[body["metadata"]["name"]] = body
        return concerned | self._concerned(kind, body)

    def remove(self, kind: str, body: Object) -> set[Key]:
        """Forget an object that is gone."""
        known = self._objects[kind].pop(body["metadata"]["uid"], None)
        if known is None:
            return set()
        if kind != QUEUE:
            return self._unlink(kind, known)
        key = key_of(known)
        if self.queues.get(key) is known:  # else another TaskQueue has been made under its name
            del self.queues[key]
        return {key}

    def replace(self, kind: str, namespace: str | None, bodies: Iterable[Object]) -> set[Key]:
        """Keep these objects, and no others, of a kind in a namespace (None: in all)."""
        listed = {body["metadata"]["uid"]: body for body in bodies}
        gone = [
            body
            for uid, body in self._objects[kind].items()
            if uid not in listed and namespace in (None, body["metadata"].get("namespace", ""))
        ]
        concerned: set[Key] = set()
        for body in gone:
            concerned |= self.remove(kind, body)
        for body in listed.values():
            concerned |= self.put(kind, body)
        return concerned

    def replica_sets(self, key: Key) -> list[Object]:
        """The ReplicaSets of a TaskQueue's Deployment."""
        deployment = self.deployments.get(key)
        if deployment is None:
            return []
        return list(self._owned[REPLICA_SET].get(deployment["metadata"]["uid"], _NONE).values())

    def pods(self, key: Key) -> dict[str, Object]:
        """The pods of a TaskQueue's Deployment that are not ending and have not ended, by name."""
        return {name: pod for name, pod in self._all_pods(key).items() if not _is_over(pod)}

    def failed_pods(self, key: Key) -> list[Object]:
        """The pods of a TaskQueue's Deployment that a node has evicted or refused."""
        return [
            pod
            for pod in self._all_pods(key).values()
            if pod.get("status", {}).get("phase") == "Failed" and not pod["metadata"].get("deletionTimestamp")
        ]

    def adoptable_pods(self, namespace: str, selector: Mapping[str, str]) -> int:
        """How many pods have these labels, are not ending and have not ended, whoever owns them.

        A Deployment that is made under a name takes over the pods that an earlier one has left.
        """
        return sum(
            pod["metadata"].get("namespace", "") == namespace
            and not _is_over(pod)
            and selector.items() <= (pod["metadata"].get("labels") or {}).items()
            for pod in self._objects[POD].values()
        )

    def _all_pods(self, key: Key) -> dict[str, Object]:
        found: dict[str, Object] = {}
        for replica_set in self.replica_sets(key):
            found.update(self._owned[POD].get(replica_set["metadata"]["uid"], _NONE))
        return found

    def forget_pod(self, key: Key, name: str) -> None:
        """Drop a pod that no longer exists, before the watch reports it."""
        if (pod := self.pods(key).get(name)) is not None:
            self.remove(POD, pod)

    def child(self, kind: str, key: Key) -> Object | None:
        """The child of that kind whose controller is the TaskQueue that is at `key` now."""
        queue = self.queues.get(key)
        if queue is None:
            return None
        return self._owned[kind].get(queue["metadata"]["uid"], _NONE).get(f"{key[1]}-worker")

    def _unlink(self, kind: str, body: Object) -> set[Key]:
        """Take an object away from its controller."""
        concerned = self._concerned(kind, body)
        if controller := controller_of(body):
            owned = self._owned[kind].get(controller["uid"], {})
            if owned.get(name := body["metadata"]["name"]) is body:
                del owned[name]
                if not owned:
                    del self._owned[kind][controller["uid"]]
        return concerned

    def _concerned(self, kind: str, body: Object) -> set[Key]:
        """The TaskQueue at the end of the object's controllers.

        Its name is taken, whether or not it is the TaskQueue of that uid: an object that goes makes room for another.
        """
        controller = controller_of(body)
        above = {POD: REPLICA_SET, REPLICA_SET: DEPLOYMENT}
        while controller is not None and (kind := above.get(kind, "")):
            owner = self._objects[kind].get(controller["uid"])
            controller = controller_of(owner) if owner is not None else None
        if controller is None or controller.get("kind") != QUEUE:
            return set()
        if str(controller.get("apiVersion", "")).partition("/")[0] != GROUP:
            return set()
        return {(body["metadata"].get("namespace", ""), controller["name"])}


class Children(Mapping[Key, Object]):
    """The children of one kind, by the key of the TaskQueue that controls them."""

    def __init__(self, store: ClusterStore, kind: str) -> None:
        self._store = store
        self._kind = kind

    def __getitem__(self, key: Key) -> Object:
        found = self._store.child(self._kind, key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[Key]:
        return (key for key in self._store.queues if self._store.child(self._kind, key) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _ChildrenOfKinds(dict[str, Children]):
    """A view for each kind, made when it is asked for."""

    def __init__(self, store: ClusterStore) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, kind: str) -> Children:
        view = self[kind] = Children(self._store, kind)
        return view


def is_before(shown: str, written: str) -> bool:
    """Whether the watch has not shown this write yet. Resource versions of one object can be compared as numbers."""
    if shown.isdecimal() and written.isdecimal():
        return int(shown) < int(written)
    return shown != written


def _is_same(one: Object, other: Object) -> bool:
    version = one["metadata"].get("resourceVersion")
    return version is not None and version == other["metadata"].get("resourceVersion")


def _asks_for(body: Object) -> tuple[Any, ...]:
    """The parts of a TaskQueue that the reconciler reads. The generation stands for the spec."""
    metadata = body["metadata"]
    return tuple(metadata.get(name) for name in ("uid", "generation", "annotations", "labels", "deletionTimestamp"))


def _is_over(pod: Object) -> bool:
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return ended or bool(pod["metadata"].get("deletionTimestamp"))


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
