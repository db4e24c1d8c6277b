"""kopf as informer and liveness shell: its events fill the store, and wake the reconciler and the scaling loops.

Only `on.event` is used. kopf's daemons, timers and change-detecting handlers would put a finalizer on every object and
a copy of its spec into an annotation; see docs/decisions/0003-kopf-as-informer.md.
"""

from __future__ import annotations

import asyncio
from typing import Any

import kopf

from taskfleet import showing

from .children import KINDS, ChildKind
from .children.names import MANAGED_BY, SELECTOR
from .control.cluster_store import ClusterStore
from .control.kubernetes_api import KubernetesApi
from .control.reconciler import Reconciler
from .control.scaling_loops import ScalingLoops
from .control.status_writer import StatusWriter
from .control.workqueue import WorkQueue
from .resource.taskqueue import GROUP, PLURAL, VERSION

logger = showing.logger("taskfleet.operator")


class Operator:
    """The parts that live as long as the process."""

    def __init__(self, cluster: KubernetesApi) -> None:
        self.cluster = cluster
        self.store = ClusterStore()
        self.status = StatusWriter(cluster, self.store)
        self.loops = ScalingLoops(cluster, self.store, self.status)
        self.work = WorkQueue(Reconciler(cluster, self.store, self.status, self.loops).reconcile)
        self._running = asyncio.create_task(self.work.run())

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.loops.close()
        await self.cluster.close()


def registry(*, clusterwide: bool) -> kopf.OperatorRegistry:
    """The handlers, in a separate registry. `clusterwide`: they serve all namespaces."""
    found = kopf.OperatorRegistry()
    operator: list[Operator] = []

    @kopf.on.login(registry=found)
    def login(**given: Any) -> kopf.ConnectionInfo | None:  # pyright: ignore[reportUnusedFunction]
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=found)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        _configure(settings)
        # An operator of named namespaces may list neither namespaces nor definitions; kopf would retry for a minute.
        settings.scanning.disabled = not clusterwide
        operator.append(Operator(await KubernetesApi.connect()))

    @kopf.on.cleanup(registry=found)
    async def stop(**_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        for one in operator:
            await one.close()

    @kopf.on.probe(id="work", registry=found)
    async def alive(**_: Any) -> bool:  # pyright: ignore[reportUnusedFunction]
        return bool(operator)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=found)
    async def queue_seen(event: Any, **_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        key = operator[0].store.put_queue(event["object"], deleted=event["type"] == "DELETED")
        if key is not None:
            operator[0].work.add(key)

    def watch(kind: ChildKind) -> None:
        async def child_seen(event: Any, **_: Any) -> None:
            key = operator[0].store.put_child(kind.kind, event["object"], deleted=event["type"] == "DELETED")
            if key is not None:
                operator[0].work.add(key)
                if kind.scaled:
                    operator[0].loops.wake(key)

        kopf.on.event(kind.group, kind.version, kind.plural, labels=_LABELS, registry=found)(child_seen)

    for kind in KINDS:
        watch(kind)

    @kopf.on.event("", "v1", "pods", labels=_LABELS, registry=found)
    async def pod_seen(event: Any, **_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        key = operator[0].store.put_pod(event["object"], deleted=event["type"] == "DELETED")
        if key is not None:
            operator[0].loops.wake(key)

    return found


_LABELS: Any = {"app.kubernetes.io/managed-by": MANAGED_BY}


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False  # `control/events.py` posts Events
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    for resource in (*((kind.group, kind.version, kind.plural) for kind in KINDS), ("", "v1", "pods")):
        settings.watching.label_selectors[resource] = SELECTOR
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.queueing.worker_limit = 64
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.process.ultimate_exiting_timeout = 30
