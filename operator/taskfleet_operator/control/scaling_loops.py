"""The scaling loops of all TaskQueues, with one broker for all that use the same Redis and credentials."""

from __future__ import annotations

import asyncio
import time

from taskfleet.cancellation import end
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ..resource.taskqueue import TaskQueueResource
from ..scaling.loop import ScalingLoop
from .cluster_store import ClusterStore, Key
from .kubernetes_api import KubernetesApi
from .kubernetes_fleet import KubernetesFleet
from .redis_credentials import RedisCredentials
from .status_writer import StatusWriter


class _Running:
    """The loop of one TaskQueue."""

    def __init__(self, fleet: KubernetesFleet, credentials: RedisCredentials, broker: RedisBroker) -> None:
        self.fleet = fleet
        self.credentials = credentials
        self.loop = ScalingLoop(fleet, broker, time.time)
        self.task = asyncio.create_task(supervise(f"{fleet.key[0]}/{fleet.key[1]}: the scaling loop", self.loop.run))


class ScalingLoops:
    """Starts, wakes and ends the loops."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._running: dict[Key, _Running] = {}
        self._brokers: dict[RedisCredentials, tuple[RedisBroker, asyncio.Task[None]]] = {}

    async def ensure(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Run a loop for this version of the TaskQueue, with these credentials."""
        known = self._running.get(key)
        if known is not None:
            if known.credentials == credentials:
                if known.fleet.update(queue):
                    known.loop.wake()
                return
            await self.drop(key)
        fleet = KubernetesFleet(key, queue, self._cluster, self._store, self._status)
        self._running[key] = _Running(fleet, credentials, self._broker(credentials))

    async def drop(self, key: Key) -> None:
        """End the loop of a TaskQueue, and its broker if no other loop uses it."""
        known = self._running.pop(key, None)
        if known is None:
            return
        await end([known.task])
        if all(other.credentials != known.credentials for other in self._running.values()):
            broker, listener = self._brokers.pop(known.credentials)
            await end([listener])
            await broker.close()

    def wake(self, key: Key) -> None:
        known = self._running.get(key)
        if known is not None:
            known.loop.wake()

    async def close(self) -> None:
        for key in list(self._running):
            await self.drop(key)

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
