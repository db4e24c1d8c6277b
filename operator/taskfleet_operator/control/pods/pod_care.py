"""The care of the pods between two changes of their number: handover, protection, and the check of departures."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from taskfleet import showing

from ...autoscaler import WorkerSample
from ...children.pod_template import ADMITTED
from ...scaling.port import Look, ScalingRedis
from ..api.kubernetes_api import ApiError, KubernetesApi
from ..status.events import EventPoster
from ..store.cluster_store import ClusterStore, Key, Object, controller_of
from . import eviction_protection
from .departures import Departures
from .eviction_protection import EvictionProtection
from .handover import (
    HandoverPods,
    HandoverSteps,
    HandoverWaitsError,
    UnheardPods,
    admissions,
    empty_pods,
    endangered_by_template,
    handover_steps,
    retreat_steps,
)
from .rollout import Rollout

logger = showing.logger("taskfleet.operator")

_CORDON_SECONDS, _RENEW_SECONDS = 300.0, 60.0
_HEARTBEAT_SECONDS = 5.0  # until a heartbeat shows a cordon
_UNREAD_SECONDS = 60.0  # a worker that does not reach Redis either has lost its leases by then
_COST = -1000


class PodCare:
    """The pods of one TaskQueue. It writes only what has changed."""

    def __init__(self, key: Key, cluster: KubernetesApi, store: ClusterStore, events: EventPoster, now: float) -> None:
        self._key = key
        self._cluster = cluster
        self._store = store
        self._events = events
        self.departures = Departures()
        self._retreats = False
        self._held: set[str] = set()  # cordoned while another template waits
        self._empty: frozenset[str] = frozenset()  # pods that run nothing and claim nothing, at the last look
        self._unheard = UnheardPods()
        self._read_at = now
        self._protection = EvictionProtection()
        self._protecting: asyncio.Task[None] | None = None
        self._marked_at: dict[str, float] = {}
        self._renewed_at: dict[str, float] = {}
        self._admitted: set[str] = set()  # uids, before the watch shows it

    async def hand_over(
        self,
        rollout: Rollout,
        workers: Iterable[WorkerSample],
        replicas: int,
        broker: ScalingRedis,
        now: float,
        *,
        settle_seconds: float,
    ) -> None:
        """Continue a rollout of `updateStrategy: Drain`, or admit all pods while there is none."""
        pods = self._store.pods(self._key)
        self._admitted &= {_uid(pod) for pod in pods.values()}
        if not rollout.under_way:
            self._read_at, self._empty = now, frozenset()
            self._held.clear()
            self._marked_at.clear()
            self._renewed_at.clear()
            await self._admit(admissions(pods).admit, pods)
            return
        uids = {str(one["metadata"].get("uid")) for one in rollout.old}
        old = frozenset(name for name, pod in pods.items() if (controller_of(pod) or {}).get("uid") in uids)
        by_name = {worker.name: worker for worker in workers}
        marked = {name for name, worker in by_name.items() if worker.marked}
        self._marked_at = {name: at for name, at in self._marked_at.items() if name in pods}
        self._marked_at |= dict.fromkeys(marked - self._marked_at.keys(), now)
        there = HandoverPods(
            pods,
            by_name,
            old,
            admitted_now=frozenset(name for name, pod in pods.items() if _uid(pod) in self._admitted),
            cordoned_now=frozenset(name for name, at in self._renewed_at.items() if now - at < _HEARTBEAT_SECONDS),
            elsewhere=self._unheard.elsewhere(old, pods, by_name, now),
        )
        if there.elsewhere:
            self._events.warn(
                "HandoverByRollingUpdate",
                f"{', '.join(sorted(there.elsewhere)[:5])}: ready, but unheard in this Redis, so that they serve "
                "another one; old pods of another Redis are replaced as in a rolling update, with drainTimeoutSeconds",
            )
        self._read_at, self._empty = now, empty_pods(there, self._held)
        if self._retreats:
            steps = retreat_steps(there, self._marked_at, replicas)
            await self._carry_out(steps, broker, pods, now)
            self._held = (self._held & pods.keys()).union(steps.cordon) - set(steps.uncordon)
        else:
            self._held.clear()
            steps = handover_steps(there, self._marked_at, replicas, now, settle_seconds=settle_seconds)
            await self._carry_out(steps, broker, pods, now)
        await self._renew((name for name in filter(there.cordoned, pods) if name not in steps.uncordon), broker, now)

    def make_way(self, rollout: Rollout, now: float, *, wanted: bool) -> None:
        """Let another pod template be applied, if one is wanted. `HandoverWaitsError` while that would cut tasks short.

        The pods that it waits for are drained meanwhile.
        """
        waits_for: list[str] = []
        if wanted and rollout.under_way:
            unread = now - self._read_at > _UNREAD_SECONDS
            waits_for = endangered_by_template(self._store.pods(self._key), self._empty, unread=unread)
        self._retreats = bool(waits_for)
        if waits_for:
            raise HandoverWaitsError(
                "the change waits for the rollout before it: new pods that have not replaced old ones yet finish what "
                f"they run: {', '.join(waits_for[:5])}{' and others' if len(waits_for) > 5 else ''}"
            )

    async def _carry_out(
        self, steps: HandoverSteps, broker: ScalingRedis, pods: Mapping[str, Object], now: float
    ) -> None:
        for name in steps.uncordon:
            await broker.uncordon(name)
            self._renewed_at.pop(name, None)
        for name in steps.cordon:
            await broker.cordon(name, ttl_seconds=_CORDON_SECONDS)
            self._renewed_at[name] = now
        for name, cost in [*((name, 0) for name in steps.unmark), *((name, _COST) for name in steps.mark)]:
            try:
                await self._cluster.set_deletion_cost(self._key[0], name, cost)
            except ApiError as error:
                if error.status != 404:
                    raise
                self._store.forget_pod(self._key, name)
                continue
            if cost:
                self._marked_at[name] = now
            else:
                self._marked_at.pop(name, None)
        await self._admit(steps.admit, pods)

    async def _renew(self, cordoned: Iterable[str], broker: ScalingRedis, now: float) -> None:
        """Cordons expire by themselves, so that a dead operator does not keep workers from their work."""
        for name in cordoned:
            if now - self._renewed_at.get(name, float("-inf")) >= _RENEW_SECONDS:
                await broker.cordon(name, ttl_seconds=_CORDON_SECONDS)
                self._renewed_at[name] = now

    async def _admit(self, names: Collection[str], pods: Mapping[str, Object]) -> None:
        for name in names:
            if _uid(pods[name]) in self._admitted:
                continue
            try:
                await self._cluster.set_pod_condition(self._key[0], name, ADMITTED)
            except ApiError as error:
                if error.status != 404:
                    raise
            self._admitted.add(_uid(pods[name]))

    def look(self, look: Look, after_seconds: float | None, template: Mapping[str, str], now: float) -> int:
        """Protect the pods that run long tasks. Tell when pods went that should have stayed; returns their number.

        `after_seconds` is None when no pod is to be protected; `template` are the annotations of the pod template.
        """
        pods = self._store.pods(self._key)
        departed = self.departures.wrong(pods.keys(), now)
        for wrong in departed:
            logger.warning("%s/%s: %s", *self._key, wrong)
            self._events.post("ScaleDownPickedBusyPod", str(wrong), kind="Warning")
        if look.workers is not None:
            self.departures.seen(look.workers)
        protecting = self._protecting is not None and not self._protecting.done()
        if look.reading is not None and look.reading.fresh and not protecting:
            workers = (one for name in pods for one in look.reading.workers.get(name, ()))
            if changes := self._protection.changes(pods, workers, after_seconds, template):
                self._protecting = asyncio.ensure_future(self._protect(changes, pods))
        return len(departed)

    def close(self) -> list[asyncio.Task[None]]:
        """What is on its way."""
        return [] if self._protecting is None else [self._protecting]

    async def _protect(self, changes: Mapping[str, bool], pods: Mapping[str, Object]) -> None:
        """In the background: a slow API server must not delay decisions. The next look begins again where it ends."""
        for name, protected in changes.items():
            try:
                await self._cluster.annotate_pod(self._key[0], name, eviction_protection.patch(protected))
            except ApiError as error:
                if error.status != 404:
                    return
                continue
            self._protection.patched(pods[name], protected)


def _uid(pod: Object) -> str:
    return str(pod["metadata"].get("uid", pod["metadata"]["name"]))
