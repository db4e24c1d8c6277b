"""The scaling loops of all TaskQueues. Those with equal credentials are read together."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Any

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.supervising import supervise

from ...resource.taskqueue import TaskQueueResource
from ...scaling.clock import ScalingClock
from ...scaling.loop import ScalingLoop
from ..api.kubernetes_api import KubernetesApi
from ..monitoring.loop_figures import LoopFigures, RedisFigures
from ..redis.redis_credentials import RedisCredentials
from ..redis.redis_place import RedisPlace
from ..status.status_writer import StatusWriter
from ..store.cluster_store import ClusterStore, Key
from .kubernetes_fleet import KubernetesFleet
from .queue_sharing import joined, sharing

logger = showing.logger("taskfleet.operator")

_CLOSING_SECONDS = 10.0


class _Running:
    """The loop of one TaskQueue."""

    def __init__(self, fleet: KubernetesFleet, place: RedisPlace, clock: ScalingClock) -> None:
        self.fleet = fleet
        self.place = place
        self.capacity = fleet.capacity  # when the queues were divided last
        self.loop = ScalingLoop(fleet, place.redis, clock.now, scaler="/".join(fleet.key))
        self.task = asyncio.create_task(supervise(f"{fleet.key[0]}/{fleet.key[1]}: the scaling loop", self.loop.run))


class ScalingLoops:
    """Starts, wakes and ends the loops. No call waits: what ends does so in the background."""

    def __init__(
        self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter, clock: ScalingClock | None = None
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._clock = clock or ScalingClock()
        self._running: dict[Key, _Running] = {}
        self._places: dict[RedisCredentials, RedisPlace] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.figures = LoopFigures()

    def ensure(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Run a loop for this version of the TaskQueue, with these credentials.

        With other credentials the loop goes on where it was. A TaskQueue that was made again gets a loop of its own.
        """
        known = self._running.get(key)
        if known is not None and known.fleet.resource.metadata.uid != queue.metadata.uid:
            self.drop(key)
            known = None
        place = self._place(credentials)
        if known is None:
            fleet = KubernetesFleet(key, queue, self._cluster, self._store, self._status, self._clock, self.figures)
            self._running[key] = known = _Running(fleet, place, self._clock)
            changed = True
        else:
            changed = known.fleet.update(queue)
            if changed:
                known.loop.wake()
        if known.place is not place:
            before, known.place = known.place, place
            known.loop.use(place.redis)
            before.leave(key)
            self._close_unused(before)
            changed = True
        if changed:
            place.serve(key, (target.name for target in known.fleet.order().queues))
        if changed or known.capacity != known.fleet.capacity:
            self._divide()

    def drop(self, key: Key) -> None:
        """End the loop of a TaskQueue, and its broker if no other loop uses it."""
        known = self._running.pop(key, None)
        if known is not None:
            self._end(end([known.task, *known.fleet.close()]))
            known.place.leave(key)
            self._close_unused(known.place)
            self.figures.forget(key)
            self._divide()

    def fleet(self, key: Key) -> KubernetesFleet | None:
        """The fleet whose loop runs now."""
        known = self._running.get(key)
        return None if known is None else known.fleet

    def wake(self, key: Key) -> None:
        known = self._running.get(key)
        if known is not None:
            known.loop.wake()

    def redis_figures(self) -> list[RedisFigures]:
        """The readings of each Redis."""
        return [place.figures for place in self._places.values()]

    async def close(self) -> bool:
        """End all loops, and wait until they have ended. Returns whether all have."""
        loops = [known.task for known in self._running.values()]
        for key in list(self._running):
            self.drop(key)
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=_CLOSING_SECONDS)
            if late:
                logger.warning("%d loops have not ended in %g s", len(late), _CLOSING_SECONDS)
        return all(loop.done() for loop in loops)

    def _woken_for_work(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if (known := self._running.get(key)) is not None:
                known.loop.wake(work=True)

    def _divide(self) -> None:
        """Divide the queues that several TaskQueues serve. Two logins or addresses of one Redis see the same queues."""
        marks = {place: place.marks for place in self._places.values()}
        for running in self._running.values():
            running.capacity = running.fleet.capacity
        for places in joined(marks):
            site = {key: running for key, running in self._running.items() if running.place in places}
            orders = {key: running.fleet.own_order for key, running in site.items()}
            for key, found in sharing(orders, {key: running.capacity for key, running in site.items()}).items():
                if site[key].fleet.share(found):
                    site[key].loop.wake()

    def _place(self, credentials: RedisCredentials) -> RedisPlace:
        # The digests only tell the pods' hash: the secret `a/url` and the secret `b/url` may have one value.
        login = dataclasses.replace(credentials, digests={})
        place = self._places.get(login)
        if place is None:
            place = RedisPlace(
                login,
                login.connect(),
                self._woken_for_work,
                lambda subject: self._cluster.permit(subject),
                self._divide,
            )
            self._places[login] = place
        return place

    def _close_unused(self, place: RedisPlace) -> None:
        if not place.used and self._places.get(place.credentials) is place:
            del self._places[place.credentials]
            self.figures.count_closed(place.figures)
            self._end(place.close())

    def _end(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a connection to Redis was not closed: %s", error)
