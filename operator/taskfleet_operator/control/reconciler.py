"""The reconciler: compares the children of a TaskQueue in the cluster with those that it should have."""

from __future__ import annotations

from typing import Any

import pydantic

from taskfleet import showing
from taskfleet.errors import ConfigurationError

from ..children import KINDS, Child, ChildKind
from ..children.names import worker_name
from ..resource.manifest import problems
from ..resource.taskqueue import TaskQueueResource, not_supported
from ..scaling.overrides import overrides_of
from .cluster_store import ClusterStore, Key
from .conditions import Condition
from .drift import holds
from .kubernetes_api import OPERATOR, ApiError, KubernetesApi
from .redis_credentials import MissingSecretError, RedisCredentials, credentials_of
from .scaling_loops import ScalingLoops
from .status_writer import StatusWriter

logger = showing.logger("taskfleet.operator")

RESYNC_SECONDS = 60.0
_SECRET_RETRY_SECONDS = 10.0
_RECONCILE_ANNOTATION = "taskfleet.io/reconcile"


class Reconciler:
    """`reconcile(key)` is level-triggered: it reads the current state, regardless of the event that caused the call."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter, loops: ScalingLoops) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._loops = loops

    async def reconcile(self, key: Key) -> float | None:
        """Bring the children in line with the TaskQueue. Returns the seconds until the next call, None for no call."""
        body = self._store.queues.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            # The children have owner references: the garbage collector deletes them, even without an operator.
            self._loops.drop(key)
            if body is None:
                self._status.forget(key)
            return None
        queue = await self._parsed(key, dict(body))
        if queue is None:
            self._loops.drop(key)
            return None
        if queue.metadata.annotations.get(_RECONCILE_ANNOTATION) == "disabled":
            await self._status.write(
                key, {}, [Condition("Progressing", False, "ReconcileDisabled", f"{_RECONCILE_ANNOTATION} is disabled")]
            )
            self._loops.drop(key)
            return None
        try:
            credentials = await credentials_of(queue, self._cluster)
        except MissingSecretError as error:
            await self._status.insist(key, {}, [Condition("Ready", False, "SecretMissing", str(error))])
            return _SECRET_RETRY_SECONDS
        try:
            await self._apply(key, queue, credentials)
        except ApiError as error:
            if error.status == 403 and "being terminated" in str(error):
                return None  # the namespace is deleted, and the TaskQueue with it
            if not error.invalid:
                raise
            # The schema checks every field but worker.template. The API server's message names the field in it.
            await self._refuse(key, queue.metadata.generation, f"spec.worker.template: {error}")
            return RESYNC_SECONDS
        if self._status.relent(key):
            self._loops.wake(key)
        await self._status.write(
            key,
            {"observedGeneration": queue.metadata.generation},
            [Condition("SpecValid", True, "Valid", "every field was understood")],
        )
        self._loops.ensure(key, queue, credentials)
        return RESYNC_SECONDS

    async def _parsed(self, key: Key, body: dict[str, Any]) -> TaskQueueResource | None:
        try:
            queue = TaskQueueResource.model_validate(
                {name: body[name] for name in ("metadata", "spec") if name in body}
            )
            problem = not_supported(queue.spec)
            overrides_of(queue)
        except pydantic.ValidationError as error:
            queue, problem = None, problems(error)
        except ConfigurationError as error:
            queue, problem = None, str(error)
        if problem is None:
            return queue
        await self._refuse(key, body["metadata"].get("generation"), problem)
        return None

    async def _refuse(self, key: Key, generation: int | None, problem: str) -> None:
        await self._status.insist(
            key,
            {"observedGeneration": generation},
            [
                Condition("SpecValid", False, "Invalid", problem),
                Condition("Ready", False, "SpecInvalid", problem),
            ],
        )

    async def _apply(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        for kind in KINDS:
            child = kind.build(queue, credentials.digests)
            if child is None:
                await self._remove(key, queue, kind)
                continue
            live = self._store.children[kind.kind].get(key)
            if live is None:
                # The watch may not have listed it yet, as at a start of the operator.
                live = await self._cluster.get(kind.api_version, kind.kind, key[0], child["metadata"]["name"])
            if live is None and kind.scaled:
                await self._create_scaled(queue, child)
            elif live is None or not holds(child, live):
                await self._cluster.apply(child, OPERATOR)
                logger.info("%s/%s: applied %s", *key, kind.kind)

    async def _create_scaled(self, queue: TaskQueueResource, child: Child) -> None:
        """Create a child with the replicas that the autoscaler starts from. Without them it would start with one."""
        autoscaler = queue.spec.autoscaler
        replicas = (queue.spec.replicas or 0) if autoscaler.mode == "Disabled" else autoscaler.min_replicas
        if queue.spec.suspend:
            replicas = 0
        created = await self._cluster.apply({**child, "spec": {**child["spec"], "replicas": replicas}}, OPERATOR)
        namespace = created["metadata"]["namespace"]
        # Both managers own the number for a moment. Then the operator's manager gives it up, and the autoscaler's keeps
        # it.
        await self._cluster.scale(namespace, child["metadata"]["name"], replicas)
        await self._cluster.apply(child, OPERATOR)
        logger.info("%s/%s: created its %s", namespace, queue.metadata.name, child["kind"])

    async def _remove(self, key: Key, queue: TaskQueueResource, kind: ChildKind) -> None:
        """Delete a child that this TaskQueue owns and no longer has."""
        live = self._store.children[kind.kind].get(key, {})
        owners = live.get("metadata", {}).get("ownerReferences", ())
        if any(owner.get("uid") == queue.metadata.uid for owner in owners):
            await self._cluster.delete(kind.api_version, kind.kind, key[0], worker_name(queue))
            logger.info("%s/%s: removed its %s", *key, kind.kind)
