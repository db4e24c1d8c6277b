"""The control loop of each TaskQueue: look at Redis, decide, set the replicas, tell in status."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

from taskfleet import showing
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ..autoscaler import FleetSample, ScalingDecision, ScalingState, decide
from ..children.names import selector, worker_name
from ..overrides import overrides_of
from ..resource.taskqueue import TaskQueueResource
from ..sampling import QueueTarget, Reading, Replicas, percentile, sample, workers_of
from . import events
from .cluster_store import ClusterStore, Key, Object, is_ready, seconds_of
from .conditions import rfc3339
from .credentials import RedisCredentials
from .draining import Departures
from .kubernetes_api import ApiError, KubernetesApi
from .status_fields import FIGURES, fields_of, verdicts
from .status_writer import StatusWriter

logger = showing.logger("taskfleet.operator")

_CLOSEST_DECISIONS_SECONDS = 0.1
_DEPARTURE_LOOK_SECONDS = 0.5
_LATENCIES_KEPT = 20
_FIGURES_SECONDS = 5.0  # a trickle of tasks wakes the loop for each: its figures are not worth a write every time


class Fleet:
    """One TaskQueue's workers. `run` looks at every poll, and at once when something wakes it."""

    def __init__(
        self,
        key: Key,
        queue: TaskQueueResource,
        broker: RedisBroker,
        cluster: KubernetesApi,
        store: ClusterStore,
        status: StatusWriter,
    ) -> None:
        self.key = key
        self.queue = queue
        self._broker = broker
        self._cluster = cluster
        self._store = store
        self._status = status
        self._wake = asyncio.Event()
        self._state: ScalingState | None = None
        self._assumed: tuple[int, int] = (0, -1)  # replicas, and the Deployment's generation that has them
        self._latencies: list[float] = []
        self._registered: set[str] | None = None  # None: those that are there when we start are no news
        self._departures = Departures(key, broker, cluster, store)
        self._last_change: dict[str, Any] | None = None
        self._told_at = float("-inf")  # monotonic
        self._untold = False  # figures have changed since

    def wake(self) -> None:
        """Look now: a queue has got work, a pod or the TaskQueue has changed."""
        self._wake.set()

    def update(self, queue: TaskQueueResource) -> None:
        # Not the whole object: our own status moves its resourceVersion, and would have us look, and write, again.
        news = (queue.spec, queue.metadata.annotations) != (self.queue.spec, self.queue.metadata.annotations)
        self.queue = queue
        if news:
            self.wake()

    async def run(self) -> None:
        """Until cancelled. No failure ends it: what was not done is done at the next look."""
        next_poll = last = float("-inf")
        while True:
            now = time.monotonic()
            if self._wake.is_set() or now >= next_poll or self._departures:
                if wait := max(0.0, last + _CLOSEST_DECISIONS_SECONDS - now):
                    await asyncio.sleep(wait)
                self._wake.clear()
                last = time.monotonic()
                next_poll = last + self.queue.spec.autoscaler.poll_interval_seconds
                self._untold = False  # a look that fails comes again with the poll, not sooner
                try:
                    await self._look_and_act()
                except (ApiError, TaskQueueError, TimeoutError, OSError) as error:
                    logger.warning("%s/%s: %s", *self.key, error)
                except Exception:
                    logger.exception("%s/%s: the scaling loop met an error and goes on", *self.key)
                if self._untold:
                    next_poll = min(next_poll, self._told_at + _FIGURES_SECONDS)
            timeout = _DEPARTURE_LOOK_SECONDS if self._departures else max(0.01, next_poll - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)

    async def _look_and_act(self) -> None:
        deployment = self._store.deployments.get(self.key)
        if deployment is None:
            return  # the reconciler has not made it yet, or somebody has deleted it: its event wakes us
        now = time.time()
        current = self._current(deployment)
        pods = self._store.pods(self.key)
        seen, reading = await self._sample(current, pods)
        if self._state is None:
            self._state = self._initial(current, now)
        decision = decide(seen, self._state, self.queue.spec.autoscaler, now)
        self._state = decision.state
        if self.queue.spec.autoscaler.mode == "Disabled" and decision.reason != "Suspended":
            wanted = 1 if self.queue.spec.replicas is None else self.queue.spec.replicas
            decision = replace(decision, desired=wanted, reason="Disabled", message="spec.replicas", limited_by="")
        if reading is not None:
            self._learn_latency(reading, pods, now)
        if self.queue.spec.autoscaler.mode != "Recommend":
            await self._move(decision, reading, pods, current)
        await self._tell(decision, seen, reading, current, pods)

    def _current(self, deployment: Object) -> int:
        """The replicas asked for. What we have just set counts until the watch has caught up."""
        replicas, generation = self._assumed
        if deployment["metadata"].get("generation", 0) >= generation:
            return int(deployment["spec"].get("replicas", 1))
        return replicas

    async def _sample(self, current: int, pods: dict[str, Object]) -> tuple[FleetSample, Reading | None]:
        spec = self.queue.spec
        ready = sum(map(is_ready, pods.values()))
        return await sample(
            self._broker,
            [QueueTarget(one.name, one.target_latency_seconds) for one in spec.queues],
            Replicas(current, ready, max(0, current - ready), frozenset(pods)),
            spec.autoscaler,
            slots_per_replica=spec.worker.concurrency * spec.worker.processes,
            start_latency_seconds=percentile(self._latencies),
            overrides=overrides_of(spec.suspend, self.queue.metadata.annotations),
        )

    def _initial(self, current: int, now: float) -> ScalingState:
        before = self._status.current(self.key).get("autoscaler") or {}
        return ScalingState.initial(
            current,
            now,
            last_active=seconds_of(before.get("lastActiveTime")),
            panic_until=seconds_of(before.get("panicUntil")),
        )

    def _learn_latency(self, reading: Reading, pods: dict[str, Object], now: float) -> None:
        registered = set(workers_of(reading, frozenset(pods)))
        for name in registered - (registered if self._registered is None else self._registered):
            created = seconds_of(pods[name]["metadata"].get("creationTimestamp"))
            if created is not None:
                self._latencies = [*self._latencies[1 - _LATENCIES_KEPT :], now - created]
        self._registered = registered

    async def _move(
        self, decision: ScalingDecision, reading: Reading | None, pods: dict[str, Object], current: int
    ) -> None:
        staying = current - len(self._departures)
        if decision.desired > staying:
            await self._departures.call_off(decision.desired - staying)
        if reading is not None and decision.desired >= current and not self._departures:
            await self._departures.lift_forgotten(current, reading, pods)
        if decision.desired > current:
            await self._set(decision.desired, current, decision)
        elif decision.desired < current:
            # Without a reading only the user or the fallback wants fewer, and no cordon reaches a worker.
            if reading is None or self.queue.spec.autoscaler.scale_down.victim_policy == "DeploymentDefault":
                await self._set(decision.desired, current, decision)
                return
            gone = await self._departures.advance(
                decision.desired,
                current,
                reading,
                pods,
                drain_busy=decision.drains_busy,
                patience=self.queue.spec.autoscaler.scale_down.drain_timeout_seconds,
            )
            if gone:
                await self._set(current - gone, current, decision)

    async def _set(self, replicas: int, current: int, decision: ScalingDecision) -> None:
        namespace = self.key[0]
        scaled = await self._cluster.scale(namespace, worker_name(self.queue), replicas)
        self._assumed = (replicas, scaled["metadata"].get("generation", 0))
        logger.info("%s/%s: replicas %d → %d  %s: %s", *self.key, current, replicas, decision.reason, decision.message)
        reason = "ScaledUp" if replicas > current else "ScaledDown"
        limit = f" (limited by {decision.limited_by})" if decision.limited_by else ""
        message = f"{current} → {replicas}  {decision.reason}: {decision.message}{limit}"
        event = events.event(self._store.queues.get(self.key), reason, message)
        if event is not None:
            with contextlib.suppress(ApiError):  # an event tells; it must not stop what it tells of
                await self._cluster.create_event(namespace, event)
        self._told_change(decision, current, replicas)

    def _told_change(self, decision: ScalingDecision, current: int, replicas: int) -> None:
        self._last_change = {
            "time": rfc3339(time.time()),
            "from": current,
            "to": replicas,
            "reason": decision.reason,
            "message": showing.shown(decision.message, 1000),
            "limitedBy": decision.limited_by or None,
        }

    async def _tell(
        self,
        decision: ScalingDecision,
        seen: FleetSample,
        reading: Reading | None,
        current: int,
        pods: dict[str, Object],
    ) -> None:
        replicas = self._current(
            self._store.deployments.get(self.key) or {"spec": {"replicas": current}, "metadata": {}}
        )
        before = self._status.current(self.key).get("autoscaler") or {}
        if self._last_change is None and self.queue.spec.autoscaler.mode == "Recommend" and decision.changed:
            self._told_change(decision, current, decision.desired)
        fields = fields_of(
            decision,
            reading,
            [one.name for one in self.queue.spec.queues],
            replicas=len(pods),
            ready=sum(map(is_ready, pods.values())),
            selector=",".join(f"{name}={value}" for name, value in selector(self.queue).items()),
            before=before,
            last_change=self._last_change,
            scaled=self.queue.spec.autoscaler.mode != "Recommend",
        )
        now = time.monotonic()
        due = now - self._told_at >= _FIGURES_SECONDS
        conditions = verdicts(decision, seen, self.queue, replicas, len(pods))
        wrote = await self._status.write(self.key, fields, conditions, unless_only=() if due else FIGURES)
        self._untold = wrote is None
        if wrote:
            self._told_at = now
        if self.queue.spec.autoscaler.mode == "Recommend":
            self._last_change = None


class Fleets:
    """All fleets, and one broker for all that reach the same Redis in the same way."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._fleets: dict[Key, tuple[RedisCredentials, Fleet, asyncio.Task[None]]] = {}
        self._brokers: dict[RedisCredentials, tuple[RedisBroker, asyncio.Task[None]]] = {}

    async def ensure(self, key: Key, queue: TaskQueueResource, access: RedisCredentials) -> None:
        """Have a loop for this TaskQueue, with this spec and this access."""
        try:
            overrides_of(queue.spec.suspend, queue.metadata.annotations)
        except ConfigurationError as error:
            logger.warning("%s/%s: %s", *key, error)
        known = self._fleets.get(key)
        if known is not None:
            if known[0] == access:
                known[1].update(queue)
                return
            await self.drop(key)
        fleet = Fleet(key, queue, self._broker(access), self._cluster, self._store, self._status)
        self._fleets[key] = (
            access,
            fleet,
            asyncio.create_task(supervise(f"{key[0]}/{key[1]}: the scaling loop", fleet.run)),
        )

    async def drop(self, key: Key) -> None:
        """End the loop of a TaskQueue, and its broker if nobody else needs it."""
        known = self._fleets.pop(key, None)
        if known is None:
            return
        access, _, task = known
        await _end(task)
        if all(other != access for other, _, _ in self._fleets.values()):
            broker, listener = self._brokers.pop(access)
            await _end(listener)
            await broker.close()

    def wake(self, key: Key) -> None:
        known = self._fleets.get(key)
        if known is not None:
            known[1].wake()

    async def close(self) -> None:
        for key in list(self._fleets):
            await self.drop(key)

    def _broker(self, access: RedisCredentials) -> RedisBroker:
        known = self._brokers.get(access)
        if known is None:
            broker = access.connect()
            listening = supervise("the listener for work", lambda: self._listen(access, broker))
            known = self._brokers[access] = (broker, asyncio.create_task(listening))
        return known[0]

    async def _listen(self, access: RedisCredentials, broker: RedisBroker) -> None:
        async for queue_name in broker.activity():
            for other, fleet, _ in list(self._fleets.values()):
                if other == access and _serves(fleet.queue, queue_name):
                    fleet.wake()


def _serves(queue: TaskQueueResource, name: str) -> bool:
    # An empty name says that announcements may have been missed.
    return not name or any(one.name == name for one in queue.spec.queues)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
