"""The scaling loops of all TaskQueues, with one broker for all that use the same Redis and credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ..resource.taskqueue import TaskQueueResource
from ..scaling.clock import ScalingClock
from ..scaling.loop import ScalingLoop
from .cluster_store import ClusterStore, Key
from .kubernetes_api import KubernetesApi
from .kubernetes_fleet import KubernetesFleet
from .redis_credentials import RedisCredentials
from .status_writer import StatusWriter

logger = showing.logger("taskfleet.operator")

_CLOSING_SECONDS = 10.0


class _Running:
    """The loop of one TaskQueue."""

    def __init__(
        self, fleet: KubernetesFleet, credentials: RedisCredentials, broker: RedisBroker, clock: ScalingClock
    ) -> None:
        self.fleet = fleet
        self.credentials = credentials
        self.loop = ScalingLoop(fleet, broker, clock.now)
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
        self._brokers: dict[RedisCredentials, tuple[RedisBroker, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def ensure(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Run a loop for this version of the TaskQueue, with these credentials.

        With other credentials the loop goes on where it was. A TaskQueue that was made again gets a loop of its own.
        """
        known = self._running.get(key)
        if known is not None and known.fleet.resource.metadata.uid != queue.metadata.uid:
            self.drop(key)
            known = None
        if known is None:
            fleet = KubernetesFleet(key, queue, self._cluster, self._store, self._status, self._clock)
            self._running[key] = _Running(fleet, credentials, self._broker(credentials), self._clock)
            return
        if known.fleet.update(queue):
            known.loop.wake()
        if known.credentials != credentials:
            before, known.credentials = known.credentials, credentials
            known.loop.use(self._broker(credentials))
            self._close_unused(before)

    def drop(self, key: Key) -> None:
        """End the loop of a TaskQueue, and its broker if no other loop uses it."""
        known = self._running.pop(key, None)
        if known is not None:
            self._end([known.task])
            self._close_unused(known.credentials)

    def fleet(self, key: Key) -> KubernetesFleet | None:
        """The fleet whose loop runs now."""
        known = self._running.get(key)
        return None if known is None else known.fleet

    def wake(self, key: Key) -> None:
        known = self._running.get(key)
        if known is not None:
            known.loop.wake()

    async def close(self) -> None:
        """End all loops, and wait until they have ended."""
        for key in list(self._running):
            self.drop(key)
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=_CLOSING_SECONDS)
            if late:
                logger.warning("%d loops have not ended in %g s", len(late), _CLOSING_SECONDS)

    def _end(self, tasks: Iterable[asyncio.Task[Any]], broker: RedisBroker | None = None) -> None:
        async def ended() -> None:
            await end(tasks)
            if broker is not None:
                await broker.close()

        task = asyncio.create_task(ended())
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a connection to Redis was not closed: %s", error)

    def _close_unused(self, credentials: RedisCredentials) -> None:
        if all(other.credentials != credentials for other in self._running.values()):
            broker, listener = self._brokers.pop(credentials)
            self._end([listener], broker)

    def _broker(self, credentials: RedisCredentials) -> RedisBroker:
        known = self._brokers.get(credentials)
        if known is None:
            broker = credentials.connect()
            listening = supervise("the listener for work", lambda: self._listen(credentials, broker))
            known = self._brokers[credentials] = (broker, asyncio.create_task(listening))
        return known[0]

    async def _listen(self, credentials: RedisCredentials, broker: RedisBroker) -> None:
        async for queue_name in broker.activity():
            for running in list(self._running.values()):
                if running.credentials == credentials and _serves(running.fleet, queue_name):
                    running.loop.wake()


def _serves(fleet: KubernetesFleet, queue_name: str) -> bool:
    # An empty name says that announcements may have been missed.
    return not queue_name or any(target.name == queue_name for target in fleet.order().queues)
