"""kopf as frame: login, startup, cleanup. The objects come from informers of our own (docs/decisions/0015)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import uuid
from typing import Any

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.process.exposition import exposition

from .control.api.kubernetes_api import KubernetesApi
from .control.leading.leadership import Leadership, StuckTermError
from .control.leading.lease import LeaseClient
from .control.monitoring import liveness
from .control.monitoring.liveness import Liveness
from .control.monitoring.metrics import OperatorCollector
from .control.monitoring.serving import Endpoints
from .control.store.cluster_store import DEPLOYMENT, POD, REPLICA_SET, ClusterStore, Key
from .control.store.informer import Informers
from .control.term import Term
from .frame import kopf
from .operator_options import OperatorOptions
from .resource.taskqueue import GROUP
from .webhook.server import WebhookServer

logger = showing.logger("taskfleet.operator")

_READ_BY_LOOPS = (DEPLOYMENT, REPLICA_SET, POD)
_LAST_WRITES_SECONDS = 1.0  # at SIGTERM, for writes that have been sent


class Operator:
    """The parts that live as long as the process. What writes belongs to a term of leadership."""

    def __init__(
        self, cluster: KubernetesApi, leadership: Leadership, leases: LeaseClient | None, options: OperatorOptions
    ) -> None:
        self.cluster = cluster
        self._options = options
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
        cluster.may_write, cluster.write_seconds = leadership.is_leading, leadership.seconds_left
        self._following = asyncio.create_task(self.informers.run())
        self._leading = asyncio.create_task(leadership.run(self._started, self._stopped))
        self._leading.add_done_callback(self._ended)
        self.webhook = (
            WebhookServer(cluster, options.webhook_port, options.webhook_cert_dir) if options.webhook_port else None
        )
        self._liveness = Liveness()
        self._liveness.add(
            liveness.runs("the election", self._leading),
            liveness.runs("following the cluster", self._following),
            liveness.watches(self.informers),
            liveness.accepted(cluster.unauthorized_for),
            liveness.works(lambda: self.term.work if self.term else None),
            liveness.listens(self._dead_listeners),
        )
        self.collector = OperatorCollector(
            leadership,
            cluster,
            self.informers,
            lambda: len(self.store.queues),
            lambda: self.term.figures if self.term else None,
        )
        self.endpoints = Endpoints(
            self._liveness.problems, self._unready, lambda accept: exposition(self.collector, accept)
        )

    @classmethod
    async def start(cls, options: OperatorOptions) -> Operator:
        leases = LeaseClient(options.lease_namespace, options.lease) if options.lease_namespace else None
        pod = os.environ.get("POD_NAME", "")
        identity = f"{pod or platform.node()}_{uuid.uuid4()}"
        operator = cls(await KubernetesApi.connect(), Leadership(leases, identity, pod=pod), leases, options)
        await operator.endpoints.start(options.probe_port, options.metrics_port)
        if operator.webhook is not None:
            await operator.webhook.start()
        return operator

    def _changed(self, kind: str, keys: set[Key]) -> None:
        if self.term is None:
            return  # a stand-by's store is warm, and the next term begins with every TaskQueue in it
        for key in keys:
            if kind != POD:
                self.term.work.add(key)
            if kind in _READ_BY_LOOPS:
                self.term.loops.wake(key)

    def _dead_listeners(self) -> list[str]:
        return [one.dead for one in self.term.figures.redis if one.dead] if self.term else []

    def _unready(self) -> list[str]:
        """A standby is ready too, once it knows the cluster: it can follow at any moment, and its webhook answers."""
        unlisted = "the cluster's objects have not been listed yet"
        found = [] if self.store.synced else [self.informers.problem or unlisted]
        if self.webhook is not None and self.webhook.problem:
            found.append(self.webhook.problem)
        return found

    def _ended(self, leading: asyncio.Task[None]) -> None:
        if not leading.cancelled() and (error := leading.exception()) is not None:
            # What writes has not stopped, so that this process must neither lead again nor stay.
            logger.critical("%s; this process ends", error)
            os.kill(os.getpid(), signal.SIGTERM)

    def _started(self) -> None:
        shards = self._options.namespaces if self._options.watch_selector else None
        self.term = Term(self.cluster, self.store, self.informers.synced, shards)

    async def _stopped(self) -> None:
        term, self.term = self.term, None
        if term is not None:
            await term.close()

    async def close(self) -> None:
        """Hand over: no further write, no write on its way, then the Lease."""
        self.leadership.close()
        await end([self._leading, self._following])
        await self.cluster.writes_ended(_LAST_WRITES_SECONDS)
        with contextlib.suppress(StuckTermError):  # it can write nothing more, as the leadership is closed
            await self._stopped()
        await self.leadership.release()
        if self.webhook is not None:
            await self.webhook.close()
        await self.endpoints.close()
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

    return found


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False  # `control/status/events.py` posts Events
    settings.peering.standalone = True
    settings.scanning.disabled = True  # kopf watches nothing, so that it need not look for definitions and namespaces
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    settings.process.ultimate_exiting_timeout = 30
