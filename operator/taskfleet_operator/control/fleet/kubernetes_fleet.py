"""The fleet port in Kubernetes: the pods of a Deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from taskfleet import showing
from taskfleet.errors import TaskQueueError

from ...autoscaler import ScalingDecision, ScalingState, WorkerSample
from ...children.names import worker_name
from ...resource.taskqueue import TaskQueueResource
from ...scaling.clock import ScalingClock
from ...scaling.order import ScalingOrder, order_of
from ...scaling.port import Look, ScalingRedis
from ...scaling.sampling import Replicas
from ..api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from ..monitoring.loop_figures import LoopFigures
from ..pods.pod_ages import PodAges
from ..pods.pod_care import PodCare
from ..pods.pod_trouble import trouble_of
from ..pods.rollout import Rollout, rollout_of
from ..status.status_teller import StatusTeller
from ..status.status_writer import StatusWriter
from ..store.cluster_store import ClusterStore, Key, Object, is_ready, seconds_of
from .fleet_report import FleetReport
from .queue_sharing import ALONE, QueueSharing

logger = showing.logger("taskfleet.operator")

_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_COST = -1000
_PANIC_SECONDS = 60.0  # at most so far in the future does a panic end


class KubernetesFleet:
    """The pods of one TaskQueue. A pod is marked by its deletion cost, which the ReplicaSet controller sorts by."""

    settle_seconds = 2.0
    """Without a pause the ReplicaSet controller may see the smaller number before it sees the deletion cost."""

    refresh_seconds = float("inf")

    def __init__(
        self,
        key: Key,
        resource: TaskQueueResource,
        cluster: KubernetesApi,
        store: ClusterStore,
        status: StatusWriter,
        clock: ScalingClock | None = None,
        figures: LoopFigures | None = None,
    ) -> None:
        self.key = key
        self.resource = resource
        self._order = order_of(resource)
        self._cluster = cluster
        self._store = store
        self._status = status
        self._clock = clock or ScalingClock()
        self._loop_figures = figures or LoopFigures()
        self._sharing = ALONE
        self._ages = PodAges(self._clock)
        events = status.events(key)
        self._care = PodCare(key, cluster, store, events, self._clock)
        teller = StatusTeller(key, resource.metadata.uid, status, self._clock, self.failed)
        self._report = FleetReport(key, self._clock, teller, events, self._loop_figures)
        self._assumed: tuple[str, int, int] = ("", 0, -1)  # a Deployment's uid, its replicas, the generation with them
        self._version = ""  # of the Deployment, at this look

    def update(self, resource: TaskQueueResource) -> bool:
        """Follow this version of the TaskQueue. Returns whether its order differs from that of the version before.

        Only spec and annotations are compared: the operator's own writes of status change the resourceVersion.
        """
        news = (resource.spec, resource.metadata.annotations) != (
            self.resource.spec,
            self.resource.metadata.annotations,
        )
        if resource.spec.redis != self.resource.spec.redis:
            self._report.other_redis()
        self.resource, self._order = resource, order_of(resource)
        return news

    @property
    def own_order(self) -> ScalingOrder:
        """The order of this TaskQueue alone."""
        return self._order

    @property
    def capacity(self) -> int:
        """The slots that this TaskQueue may have at most."""
        deployment = self._store.deployments.get(self.key)
        return self._order.capacity(0 if deployment is None else self._current(deployment))

    def order(self) -> ScalingOrder:
        return self._order.shared(self._sharing.shares) if self._sharing.shares else self._order

    def share(self, sharing: QueueSharing) -> bool:
        """Serve only this part of the queues. Returns whether that is news."""
        news, self._sharing = sharing != self._sharing, sharing
        return news

    def replicas(self) -> Replicas | None:
        """None while there is no Deployment: before the reconciler has made it, or after a user has deleted it."""
        deployment = self._store.deployments.get(self.key)
        if deployment is None:
            return None
        current, pods = self._current(deployment), self._store.pods(self.key)
        self._version = str(deployment["metadata"].get("resourceVersion", ""))
        ready = sum(map(is_ready, pods.values()))
        return Replicas(
            current=current,
            ready=ready,
            pending=max(0, current - ready),
            ages=self._ages.of(pods),
            marked=frozenset(name for name, pod in pods.items() if _is_marked(pod)),
            # Missing pods do not lower the number: the ReplicaSet controller may create them at any moment.
            absent=0,
            unready=frozenset(name for name, pod in pods.items() if not is_ready(pod)),
            hold=self._rollout(deployment).hold,
        )

    def _rollout(self, deployment: Object) -> Rollout:
        return rollout_of(deployment, self._store.replica_sets(self.key))

    @property
    def _trouble(self) -> tuple[str, str] | None:
        """Why pods do not start, if they do not: reason and message."""
        found = trouble_of(
            self._store.deployments.get(self.key),
            self._store.replica_sets(self.key),
            self._store.pods(self.key).values(),
            self._store.failed_pods(self.key),
        )
        return (found.reason, found.message) if found is not None else None

    def _current(self, deployment: Object) -> int:
        """The requested replicas. A number that was just set counts until the watch has caught up."""
        uid, replicas, generation = self._assumed
        metadata = deployment["metadata"]
        if metadata.get("uid") == uid and metadata.get("generation", 0) < generation:
            return replicas
        return int(deployment["spec"].get("replicas", 1))

    def initial_state(self, current: int, now: float) -> ScalingState:
        """The two times come from `status`. One that lies in the future is dropped."""
        before = dict(self._status.current(self.key).get("autoscaler") or {})
        last_active = self._clock.past(seconds_of(before.get("lastActiveTime")))
        panic_until = self._clock.past(seconds_of(before.get("panicUntil")), ahead=_PANIC_SECONDS)
        self._report.begin(before)
        return ScalingState.initial(current, now, last_active=last_active, panic_until=panic_until)

    async def mark(self, name: str) -> bool:
        try:
            await self._cluster.set_deletion_cost(self.key[0], name, _COST)
        except ApiError as error:
            if error.status != 404:
                raise
            # The watch has not reported yet that this pod is gone. If it counted as a pod to remove, another pod would
            # be removed.
            self._store.forget_pod(self.key, name)
            return False
        return True

    async def unmark(self, name: str) -> None:
        try:
            await self._cluster.set_deletion_cost(self.key[0], name, 0)
        except ApiError as error:
            logger.warning("%s/%s: pod %s keeps its deletion cost: %s", *self.key, name, error)

    async def resize(self, replicas: int, removed: Sequence[str], decision: ScalingDecision) -> None:
        """Set the Deployment's number, and give the reason in an Event.

        The ReplicaSet controller removes marked pods.
        """
        current = decision.current
        deployment = self._store.deployments.get(self.key)
        if deployment is None:  # it was there when the look began
            raise ApiError(404, f"the Deployment is gone, and does not become {replicas} replicas")
        uid = deployment["metadata"]["uid"]
        pods = frozenset(self._store.pods(self.key))  # before the call: some may be gone when it returns
        scaled = await self._scale(uid, replicas, current)
        self._care.departures.expect(removed if replicas < current else (), pods, self._clock.now())
        self._assumed = (uid, replicas, scaled["metadata"].get("generation", 0))
        logger.info("%s/%s: replicas %d → %d  %s: %s", *self.key, current, replicas, decision.reason, decision.message)
        self._report.resized(decision, replicas)

    async def _scale(self, uid: str, replicas: int, current: int) -> Object:
        """Set the number of the Deployment that the look has seen, and of no later version of it.

        A rollout may have begun since, or somebody else may have set a higher number, of which a part would be removed.
        A larger number only wants the number before it to be the same.
        """
        namespace, name, version = self.key[0], worker_name(self.resource), self._version
        while True:
            try:
                return await self._cluster.scale(namespace, name, uid, replicas, version=version)
            except ApiError as error:
                if not error.conflict or replicas < current:
                    raise
                live = await self._cluster.get("apps/v1", "Deployment", namespace, name)
                if live is None or live["metadata"]["uid"] != uid or live["spec"].get("replicas") != current:
                    raise
                if live["metadata"]["resourceVersion"] == version:
                    raise  # it is refused for another reason
                version = live["metadata"]["resourceVersion"]

    async def hand_over(self, workers: Sequence[WorkerSample], broker: ScalingRedis) -> bool:
        deployment = self._store.deployments.get(self.key)
        if deployment is None or self.resource.spec.worker.update_strategy.type != "Drain":
            return False
        rollout, replicas, now = self._rollout(deployment), self._current(deployment), self._clock.now()
        await self._care.hand_over(
            deployment, rollout, workers, replicas, broker, now, settle_seconds=self.settle_seconds
        )
        return rollout.under_way or self._care.retreats

    async def tell(self, look: Look) -> float:
        decision, asked = look.decision, look.replicas.current
        assert decision is not None, "refresh_seconds is infinite, so that every look decides"
        if deployment := self._store.deployments.get(self.key):
            asked = self._current(deployment)
            self._look_after(look, deployment)
        self._report.tell(
            look, decision, self.resource, asked=asked, trouble=self._trouble, shared=self._sharing.message
        )
        return float("inf")

    def close(self) -> list[asyncio.Task[Any]]:
        """Tell nothing any more. Returns what is on its way."""
        return [*self._report.close(), *self._care.close()]

    def _look_after(self, look: Look, deployment: Object) -> None:
        protection = self.resource.spec.worker.eviction_protection
        after = protection.after_seconds if protection.mode == "Enabled" else None
        template = deployment["spec"].get("template", {}).get("metadata", {}).get("annotations") or {}
        self._loop_figures.wrong_departures += self._care.look(look, after, template, self._clock.now())

    def make_way(self, *, wanted: bool) -> None:
        """Let another pod template be applied, if one is `wanted`. `HandoverWaitsError` while it has to wait."""
        deployment = self._store.deployments.get(self.key)
        if deployment is not None:
            rollout, replicas = self._rollout(deployment), self._current(deployment)
            self._care.make_way(deployment, rollout, replicas, self._clock.now(), wanted=wanted)

    def failed(self, error: Exception) -> None:
        if isinstance(error, NotLeadingError):
            return  # the term ends, and this loop with it
        if isinstance(error, (ApiError, TaskQueueError, TimeoutError, OSError)):
            logger.warning("%s/%s: %s", *self.key, error)
        else:
            logger.error("%s/%s: the scaling loop met an error and goes on", *self.key, exc_info=error)


def _is_marked(pod: Object) -> bool:
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    return annotations.get(_DELETION_COST) == str(_COST)
