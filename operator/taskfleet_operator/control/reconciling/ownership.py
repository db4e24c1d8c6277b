"""Ownership: whose an object under a child's name is.

A child belongs to the TaskQueue whose uid its controller reference has. Everything else is foreign, whatever its name
and labels: it is neither changed nor deleted, and a condition names it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...children import ChildKind
from ...children.names import worker_name
from ...resource.taskqueue import API_VERSION, KIND, TaskQueueResource
from ..api.kubernetes_api import KubernetesApi
from ..store.cluster_store import DEPLOYMENT, ClusterStore, Key, Object, controller_of


class ForeignObjectError(Exception):
    """Objects of somebody else have the names of children."""

    def __init__(self, queue: TaskQueueResource, found: Sequence[tuple[ChildKind, Object]]) -> None:
        names = "; ".join(f"{kind.kind} {live['metadata']['name']!r} {_whose(queue, live)}" for kind, live in found)
        super().__init__(f"{names}. Nothing was changed: delete or rename what is in the way, or rename the TaskQueue")
        self.passing = all(_earlier(queue, live) for _, live in found)
        """The garbage collector is about to delete them all."""


class EndingChildError(Exception):
    """Children are being deleted, by somebody else: what is written to them is lost, or has no effect."""

    def __init__(self, found: Sequence[Object]) -> None:
        super().__init__(f"{'; '.join(map(_ending, found))}. It is made again when it is gone")
        self.stops = any(live.get("kind") == DEPLOYMENT for live in found)
        """Its controller makes no pods any more."""


def is_ending(live: Object) -> bool:
    return bool(live["metadata"].get("deletionTimestamp"))


def is_owned(live: Object, uid: str | None) -> bool:
    """Whether the controller reference of an object has this uid."""
    controller = controller_of(live)
    return controller is not None and uid is not None and controller.get("uid") == uid


async def find_child(
    kind: ChildKind, key: Key, queue: TaskQueueResource, store: ClusterStore, cluster: KubernetesApi
) -> Object | None:
    """The object with the name of this child, of any owner.

    The API server is asked for an object that the watch has not shown as one of this TaskQueue: the watch may lag
    behind, and it does not show objects without the operator's label.
    """
    live = store.children[kind.kind].get(key)
    if live is not None and is_owned(live, queue.metadata.uid):
        return live
    return await cluster.get(kind.api_version, kind.kind, key[0], worker_name(queue))


def _ending(live: Object) -> str:
    metadata = live["metadata"]
    finalizers = ", ".join(metadata.get("finalizers") or ())
    waits = f" and waits for its finalizers: {finalizers}" if finalizers else ""
    return f"{live.get('kind', 'object')} {metadata['name']!r} is being deleted{waits}"


def _whose(queue: TaskQueueResource, live: Object) -> str:
    controller = controller_of(live)
    if controller is None:
        return "exists without a controller"
    if _earlier(queue, live):
        return "is of an earlier TaskQueue of this name, and is deleted with it"
    return f"belongs to the {controller.get('kind')} {controller.get('name')!r}"


def _earlier(queue: TaskQueueResource, live: Object) -> bool:
    controller = controller_of(live) or {}
    of = controller.get("apiVersion"), controller.get("kind"), controller.get("name")
    return of == (API_VERSION, KIND, queue.metadata.name)
