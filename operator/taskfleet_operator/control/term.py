"""One term of leadership: the parts that write, made when this process begins to lead, ended when it no longer does.

They remember what they have written, and another operator may have written since. So a new term starts with new parts.
"""

from __future__ import annotations

import asyncio

from taskfleet.cancellation import end

from .cluster_store import ClusterStore, Key
from .kubernetes_api import KubernetesApi
from .reconciler import Reconciler
from .scaling_loops import ScalingLoops
from .status_writer import StatusWriter
from .workqueue import WorkQueue


class Term:
    """The work queue with its reconciler, and the scaling loops."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore) -> None:
        status = StatusWriter(cluster, store)
        self.loops = ScalingLoops(cluster, store, status)
        self.work = WorkQueue(Reconciler(cluster, store, status, self.loops).reconcile)
        self._running = asyncio.create_task(self.work.run())
        for key in store.queues:
            self.work.add(key)

    def changed(self, key: Key, *, wake: bool = False) -> None:
        """Reconcile a TaskQueue; `wake`: let its loop look too."""
        self.work.add(key)
        if wake:
            self.loops.wake(key)

    async def close(self) -> None:
        await end([self._running])
        await self.loops.close()
