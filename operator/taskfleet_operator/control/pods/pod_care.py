"""The care of the pods between two changes of their number: handover, protection, and the check of departures."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping

from taskfleet import showing

from ...autoscaler import WorkerSample
from ...children.pod_template import ADMITTED
from ...scaling.clock import ScalingClock
from ...scaling.port import Look, ScalingRedis
from ..api.kubernetes_api import ApiError, KubernetesApi
from ..status.events import EventPoster
from ..store.cluster_store import ClusterStore, Key, Object, controller_of, is_ready
from . import eviction_protection
from .departures import Departures
from .eviction_protection import EvictionProtection
from .handover import (
    HandoverPods,
    HandoverSteps,
    HandoverWaitsError,
    OldPods,
    UnheardPods,
    admissions,
    empty_pods,
    endangered_by_template,
    handover_steps,
    has_gate,
    retreat_steps,
)
from .rollout import Rollout, wanted_of

logger = showing.logger("taskfleet.operator")

_CORDON_SECONDS, _RENEW_SECONDS = 300.0, 60.0
_HEARTBEAT_SECONDS = 5.0  # until a heartbeat shows a cordon
_SHOWN_SECONDS = 10.0  # until the watch shows what was written, and what follows from it, unless that has failed
_UNREAD_SECONDS = 60.0  # a worker that does not reach Redis either has lost its leases by then
_COST = -1000


class PodCare:
    """The pods of one TaskQueue. It writes only what has changed."""

    def __init__(
        self, key: Key, cluster: KubernetesApi, store: ClusterStore, events: EventPoster, clock: ScalingClock
    ) -> None:
        self._key = key
        self._cluster = cluster
        self._store = store
        self._events = events
        self._clock = clock
        self.departures = Departures()
        self.retreats = False
        """Whether another template waits, so that pods which are not ready drain."""
        self._way_made: tuple[Object, float] = {}, 0.0  # the template that another one could replace, and when
        self._waits_since: float | None = None  # for pods that are being made
        self._held: set[str] = set()  # cordoned while another template waits
        self._empty: frozenset[str] = frozenset()  # pods that run nothing and claim nothing, at the last look
        self._unheard = UnheardPods()
        self._read_at = clock.now()
        self._protection = EvictionProtection()
        self._protecting: asyncio.Task[None] | None = None
        self._marked_at: dict[str, float] = {}
        self._renewed_at: dict[str, float] = {}
        self._admitted: dict[str, float] = {}  # uid → when, before the watch shows it

    async def hand_over(
        self,
        deployment: Object,
        rollout: Rollout,
        workers: Iterable[WorkerSample],
        replicas: int,
        broker: ScalingRedis,
        now: float,
        *,
        settle_seconds: float,
    ) -> None:
        """Continue a rollout of `updateStrategy: Drain`, or admit all pods while there is none and none waits."""
        pods = self._store.pods(self._key)
        there_are = {_uid(pod) for pod in pods.values()}
        self._admitted = {uid: at for uid, at in self._admitted.items() if uid in there_are}
        before, at = self._way_made
        retreats = self.retreats or (_template(deployment) == before and now - at < _SHOWN_SECONDS)
        if not rollout.under_way and not retreats:
            self._read_at, self._empty = now, frozenset()
            self._held.clear()
            self._marked_at.clear()
            called_off = tuple(sorted(self._renewed_at.keys() & pods.keys()))
            await self._carry_out(HandoverSteps(uncordon=called_off, admit=admissions(pods).admit), broker, pods)
            self._renewed_at.clear()
            return
        old_sets = tuple(OldPods(_names_of(one, pods), wanted_of(one)) for one in rollout.old)
        old = frozenset[str]().union(*(one.names for one in old_sets))
        by_name = {worker.name: worker for worker in workers}
        marked = {name for name, worker in by_name.items() if worker.marked}
        self._marked_at = {name: at for name, at in self._marked_at.items() if name in pods}
        self._marked_at |= dict.fromkeys(marked - self._marked_at.keys(), now)
        there = HandoverPods(
            pods,
            by_name,
            old_sets,
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
        if retreats:
            steps = retreat_steps(there, self._marked_at, replicas)
            self._empty -= set(steps.uncordon)
            await self._carry_out(steps, broker, pods)
            self._held = (self._held & pods.keys()).union(steps.cordon) - set(steps.uncordon)
        else:
            self._held.clear()
            steps = handover_steps(there, self._marked_at, replicas, now, settle_seconds=settle_seconds)
            self._empty -= set(steps.uncordon)
            await self._carry_out(steps, broker, pods)
        await self._renew((name for name in filter(there.cordoned, pods) if name not in steps.uncordon), broker, now)

    def make_way(self, deployment: Object, rollout: Rollout, replicas: int, now: float, *, wanted: bool) -> None:
        """Let another pod template be applied, if one is wanted. `HandoverWaitsError` while that would cut tasks short.

        The pods that it waits for are drained meanwhile. They claim nothing either until the watch shows another
        template in the place of that of `deployment`, or it has not come.
        """
        waits_for: list[str] = []
        moves = ""
        if wanted:
            pods = self._store.pods(self._key)
            unread = now - self._read_at > _UNREAD_SECONDS
            waits_for = endangered_by_template(pods, self._empty, unread=unread)
            moves = self._moves(deployment, rollout, replicas, pods, now)
        self.retreats = bool(waits_for or moves)
        if waits_for:
            moves = (
                "pods that are not ready, which Kubernetes would remove first, finish what they run: "
                f"{', '.join(waits_for[:5])}{' and others' if len(waits_for) > 5 else ''}"
            )
        if moves:
            raise HandoverWaitsError(f"the change waits for the rollout before it: {moves}")
        self._waits_since = None
        if wanted:
            self._way_made = _template(deployment), now

    def _moves(
        self, deployment: Object, rollout: Rollout, replicas: int, pods: Mapping[str, Object], now: float
    ) -> str:
        """What Kubernetes has not carried out yet, "" for nothing. Another template would change what it does.

        It would choose from other ReplicaSets, or remove pods that are not known here.
        """
        since, self._waits_since = self._waits_since, None
        if not any(has_gate(one) for one in (_template(deployment), *pods.values())):
            return ""  # a rolling update
        before, at = self._way_made
        if _template(deployment) == before and now - at < _SHOWN_SECONDS:
            return "the watch does not show the last one"
        if rollout.paused:
            return ""
        sets = rollout.old if rollout.new is None else (*rollout.old, rollout.new)
        ready = {name for name, pod in pods.items() if is_ready(pod)}
        admitted = {uid for uid, at in self._admitted.items() if now - at < _SHOWN_SECONDS}
        coming = {name for name, pod in pods.items() if _uid(pod) in admitted}
        if len(ready | coming) > replicas:
            return "Kubernetes is about to remove a pod"
        coming_up = rollout.new is None or wanted_of(rollout.new) < replicas  # the old ones make room for its pods
        if coming_up or any(len(_names_of(one, pods)) < wanted_of(one) for one in sets):
            # No longer than this: a quota may refuse the pods, and another template may be what helps.
            self._waits_since = now if since is None else since
            if now - self._waits_since < _SHOWN_SECONDS:
                return "pods are being made"
        return ""

    async def _carry_out(self, steps: HandoverSteps, broker: ScalingRedis, pods: Mapping[str, Object]) -> None:
        """One by one. A step counts from its end: a call may take as long as the time that is given to Kubernetes."""
        for name in steps.uncordon:
            await broker.uncordon(name)
            self._renewed_at.pop(name, None)
        for name in steps.cordon:
            await broker.cordon(name, ttl_seconds=_CORDON_SECONDS)
            self._renewed_at[name] = self._clock.now()
        for name, cost in [*((name, 0) for name in steps.unmark), *((name, _COST) for name in steps.mark)]:
            try:
                await self._cluster.set_deletion_cost(self._key[0], name, cost)
            except ApiError as error:
                if error.status != 404:
                    raise
                self._store.forget_pod(self._key, name)
                continue
            if cost:
                self._marked_at[name] = self._clock.now()
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
            self._admitted[_uid(pods[name])] = self._clock.now()

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


def _template(deployment: Object) -> Object:
    template: Object = deployment["spec"]["template"]
    return template


def _names_of(replica_set: Object, pods: Mapping[str, Object]) -> frozenset[str]:
    """The names of its pods."""
    uid = replica_set["metadata"].get("uid")
    return frozenset(name for name, pod in pods.items() if (controller_of(pod) or {}).get("uid") == uid)


def _uid(pod: Object) -> str:
    return str(pod["metadata"].get("uid", pod["metadata"]["name"]))
