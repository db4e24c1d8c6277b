"""Pods that are to go: cordoned, drained, marked, and only then taken out of the count.

Setting a pod's deletion cost and the replicas at once is a race: the ReplicaSet controller may see the smaller number
first. So two seconds lie between them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from taskfleet import showing
from taskfleet.redis.broker import RedisBroker

from ..autoscaler import choose_victims
from ..sampling import Reading, candidates, workers_of
from .cluster_store import ClusterStore, Key, Object, seconds_of
from .kubernetes_api import ApiError, KubernetesApi

logger = showing.logger("taskfleet.operator")

_CACHE_SECONDS = 2.0
_COST = -1000
_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(slots=True)
class _Departure:
    since: float
    marked: float | None = None


class Departures:
    """The pods of one TaskQueue that empty themselves. True while there are any."""

    def __init__(self, key: Key, broker: RedisBroker, cluster: KubernetesApi, store: ClusterStore) -> None:
        self._key = key
        self._broker = broker
        self._cluster = cluster
        self._store = store
        self._leaving: dict[str, _Departure] = {}

    def __len__(self) -> int:
        return len(self._leaving)

    async def call_off(self, count: int) -> None:
        """Demand is back: lift the cordon of the last `count` that were told to go."""
        for name in sorted(self._leaving, key=lambda name: self._leaving[name].since, reverse=True)[:count]:
            await self._stay(name)

    async def lift_forgotten(self, current: int, reading: Reading, pods: dict[str, Object]) -> None:
        """Have pods work again that an operator before this one, which was killed meanwhile, has told to go.

        Call it when nobody is too many. While there are more pods than asked for, some are on their way out: not those.
        """
        if len(pods) > current:
            return
        for name, processes in workers_of(reading, frozenset(pods)).items():
            if name not in self._leaving and any(one.state in ("cordoned", "drained") for one in processes):
                logger.info("%s/%s: pod %s works again: nobody waits for it to go", *self._key, name)
                await self._broker.uncordon(name)
        for name, pod in pods.items():
            if name not in self._leaving and (pod["metadata"].get("annotations") or {}).get(_ANNOTATION) == str(_COST):
                await self._unmark(name)

    async def advance(
        self,
        desired: int,
        current: int,
        reading: Reading,
        pods: dict[str, Object],
        *,
        drain_busy: bool,
        patience: float,
    ) -> int:
        """One look: cordon as many as are too many; returns how many may be taken out of the count now.

        `patience` is how long a pod may take to drain, in seconds; then it stays, and is asked another time.
        """
        now = time.monotonic()
        for name in [name for name in self._leaving if name not in pods]:
            del self._leaving[name]
        live = workers_of(reading, frozenset(pods))
        await self._cordon(current - len(self._leaving) - desired, reading, pods, drain_busy, patience, now)
        for name, departure in list(self._leaving.items()):
            drained = all(process.state == "drained" for process in live.get(name, ()))
            if departure.marked is None and drained:
                await self._mark(name, departure, now)
            elif not drained and now - departure.since > patience:
                await self._stay(name)
        return await self._gone(current - desired, now)

    async def _cordon(
        self, count: int, reading: Reading, pods: dict[str, Object], drain_busy: bool, patience: float, now: float
    ) -> None:
        if count <= 0:
            return
        wall = time.time()
        ages = {
            name: wall - (seconds_of(pod["metadata"].get("creationTimestamp")) or wall)
            for name, pod in pods.items()
            if name not in self._leaving
        }
        for victim in choose_victims(candidates(reading, ages), count, drain_busy=drain_busy):
            await self._broker.cordon(victim.name, ttl_seconds=patience + 60.0)
            self._leaving[victim.name] = _Departure(now)

    async def _mark(self, name: str, departure: _Departure, now: float) -> None:
        try:
            await self._cluster.set_deletion_cost(self._key[0], name, _COST)
        except ApiError as error:
            if error.status != 404:
                raise
            # It went without the watch's telling. Counted as one that may go, it would cost another pod its life.
            del self._leaving[name]
            self._store.forget_pod(self._key, name)
            return
        departure.marked = now

    async def _stay(self, name: str) -> None:
        departure = self._leaving.pop(name)
        await self._broker.uncordon(name)
        if departure.marked is not None:
            await self._unmark(name)

    async def _unmark(self, name: str) -> None:
        try:
            await self._cluster.set_deletion_cost(self._key[0], name, 0)
        except ApiError as error:
            logger.warning("%s/%s: pod %s keeps its deletion cost: %s", *self._key, name, error)

    async def _gone(self, most: int, now: float) -> int:
        """Those marked long enough ago. Pods that still drain are left for a later look."""
        ready = [
            name
            for name, departure in self._leaving.items()
            if departure.marked is not None and now - departure.marked >= _CACHE_SECONDS
        ]
        undecided = any(departure.marked is None for departure in self._leaving.values())
        soon = any(
            departure.marked is not None and now - departure.marked < _CACHE_SECONDS
            for departure in self._leaving.values()
        )
        if not ready or (soon and not undecided):
            return 0  # the rest follows in a moment: one change of the number in place of several
        chosen = ready[: max(0, most)]
        for name in chosen:
            del self._leaving[name]  # its cordon stays until the key expires, so that it claims nothing while it goes
        return len(chosen)
