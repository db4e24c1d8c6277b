"""kopf as informer and liveness shell: its events fill the store, and wake the reconciler and the scaling loops.

Only `on.event` is used. kopf's daemons, timers and change-detecting handlers would put a finalizer on every object and
a copy of its spec into an annotation; see docs/decisions/0003-kopf-as-informer.md.
"""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from typing import Any

import kopf

from taskfleet import showing
from taskfleet.cancellation import end

from .children import KINDS, ChildKind
from .children.names import MANAGED_BY, SELECTOR
from .control.cluster_store import ClusterStore, Key
from .control.kubernetes_api import KubernetesApi
from .control.leadership import Leadership
from .control.lease import LeaseClient
from .control.term import Term
from .operator_options import OperatorOptions
from .resource.taskqueue import GROUP, PLURAL, VERSION

logger = showing.logger("taskfleet.operator")

_LAST_WRITES_SECONDS = 1.0  # at SIGTERM, for writes that have been sent


class Operator:
    """The parts that live as long as the process. What writes belongs to a term of leadership."""

    def __init__(self, cluster: KubernetesApi, leadership: Leadership, leases: LeaseClient | None) -> None:
        self.cluster = cluster
        self.store = ClusterStore()
        self.leadership = leadership
        self.term: Term | None = None
        self._leases = leases
        cluster.may_write = leadership.is_leading
        self._leading = asyncio.create_task(leadership.run(self._started, self._stopped))

    @classmethod
    async def start(cls, options: OperatorOptions) -> Operator:
        leases = LeaseClient(options.lease_namespace, options.lease) if options.lease_namespace else None
        pod = os.environ.get("POD_NAME", "")
        identity = f"{pod or platform.node()}_{uuid.uuid4()}"
        return cls(await KubernetesApi.connect(), Leadership(leases, identity, pod=pod), leases)

    def changed(self, key: Key | None, *, wake: bool = False) -> None:
        if key is not None and self.term is not None:
            self.term.changed(key, wake=wake)

    def woken(self, key: Key | None) -> None:
        if key is not None and self.term is not None:
            self.term.loops.wake(key)

    def _started(self) -> None:
        self.term = Term(self.cluster, self.store)

    async def _stopped(self) -> None:
        term, self.term = self.term, None
        if term is not None:
            await term.close()

    async def close(self) -> None:
        """Hand over: no further write, no write on its way, then the Lease."""
        self.leadership.close()
        await end([self._leading])
        await self.cluster.writes_ended(_LAST_WRITES_SECONDS)
        await self._stopped()
        await self.leadership.release()
        if self._leases is not None:
            await self._leases.close()
        await self.cluster.close()


def registry(options: OperatorOptions) -> kopf.OperatorRegistry:
    """The handlers, in a separate registry."""
    found = kopf.OperatorRegistry()
    operator: list[Operator] = []

    @kopf.on.login(registry=found)
    def login(**given: Any) -> kopf.ConnectionInfo | None:  # pyright: ignore[reportUnusedFunction]
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=found)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        _configure(settings)
        # An operator of named namespaces may list neither namespaces nor definitions; kopf would retry for a minute.
        settings.scanning.disabled = bool(options.namespaces)
        operator.append(await Operator.start(options))

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
        operator[0].changed(key)

    def watch(kind: ChildKind) -> None:
        async def child_seen(event: Any, **_: Any) -> None:
            key = operator[0].store.put_child(kind.kind, event["object"], deleted=event["type"] == "DELETED")
            operator[0].changed(key, wake=kind.scaled)

        kopf.on.event(kind.group, kind.version, kind.plural, labels=_LABELS, registry=found)(child_seen)

    for kind in KINDS:
        watch(kind)

    @kopf.on.event("", "v1", "pods", labels=_LABELS, registry=found)
    async def pod_seen(event: Any, **_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        key = operator[0].store.put_pod(event["object"], deleted=event["type"] == "DELETED")
        operator[0].woken(key)

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
