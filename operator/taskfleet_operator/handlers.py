"""kopf as frame: login, startup, cleanup, probes. The objects come from informers of our own (docs/decisions/0015)."""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from typing import Any

import kopf

from taskfleet import showing
from taskfleet.cancellation import end

from .control.cluster_store import DEPLOYMENT, POD, REPLICA_SET, ClusterStore, Key
from .control.informer import Informers
from .control.kubernetes_api import KubernetesApi
from .control.leadership import Leadership
from .control.lease import LeaseClient
from .control.term import Term
from .operator_options import OperatorOptions
from .resource.taskqueue import GROUP

logger = showing.logger("taskfleet.operator")

_READ_BY_LOOPS = (DEPLOYMENT, REPLICA_SET, POD)
_LAST_WRITES_SECONDS = 1.0  # at SIGTERM, for writes that have been sent


class Operator:
    """The parts that live as long as the process. What writes belongs to a term of leadership."""

    def __init__(
        self, cluster: KubernetesApi, leadership: Leadership, leases: LeaseClient | None, options: OperatorOptions
    ) -> None:
        self.cluster = cluster
        self.store = ClusterStore()
        self.informers = Informers(
            cluster,
            self.store,
            self._changed,
            namespaces=options.namespaces,
            queue_selector=options.watch_selector,
        )
        self.leadership = leadership
        self.term: Term | None = None
        self._leases = leases
        cluster.may_write = leadership.is_leading
        self._following = asyncio.create_task(self.informers.run())
        self._leading = asyncio.create_task(leadership.run(self._started, self._stopped))

    @classmethod
    async def start(cls, options: OperatorOptions) -> Operator:
        leases = LeaseClient(options.lease_namespace, options.lease) if options.lease_namespace else None
        pod = os.environ.get("POD_NAME", "")
        identity = f"{pod or platform.node()}_{uuid.uuid4()}"
        return cls(await KubernetesApi.connect(), Leadership(leases, identity, pod=pod), leases, options)

    def _changed(self, kind: str, keys: set[Key]) -> None:
        if self.term is None:
            return  # a stand-by's store is warm, and the next term begins with every TaskQueue in it
        for key in keys:
            if kind != POD:
                self.term.work.add(key)
            if kind in _READ_BY_LOOPS:
                self.term.loops.wake(key)

    def _started(self) -> None:
        self.term = Term(self.cluster, self.store, self.informers.synced)

    async def _stopped(self) -> None:
        term, self.term = self.term, None
        if term is not None:
            await term.close()

    async def close(self) -> None:
        """Hand over: no further write, no write on its way, then the Lease."""
        self.leadership.close()
        await end([self._leading, self._following])
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
        operator.append(await Operator.start(options))

    @kopf.on.cleanup(registry=found)
    async def stop(**_: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        for one in operator:
            await one.close()

    @kopf.on.probe(id="work", registry=found)
    async def alive(**_: Any) -> bool:  # pyright: ignore[reportUnusedFunction]
        return bool(operator)

    return found


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False  # `control/events.py` posts Events
    settings.peering.standalone = True
    settings.scanning.disabled = True  # kopf watches nothing, so that it need not look for definitions and namespaces
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.process.ultimate_exiting_timeout = 30
