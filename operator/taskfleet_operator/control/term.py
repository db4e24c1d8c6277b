"""One term of leadership: the parts that write, made when this process begins to lead, ended when it no longer does.

They remember what they have written, and another operator may have written since. So a new term starts with new parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from taskfleet.cancellation import end

from .api.kubernetes_api import KubernetesApi
from .fleet.scaling_loops import ScalingLoops
from .leading.leadership import StuckTermError
from .monitoring.metrics import TermFigures
from .reconciling.reconciler import Reconciler
from .redis.purging import Purging
from .redis.schedule_keeper import ScheduleKeeper
from .redis.secrets import SecretCache
from .status.status_writer import StatusWriter
from .store.cluster_store import ClusterStore
from .workqueue import WorkQueue


class Term:
    """The work queue with its reconciler, the scaling loops, the schedules, and the purges."""

    def __init__(
        self,
        cluster: KubernetesApi,
        store: ClusterStore,
        synced: Callable[[], Awaitable[None]],
        shards: Sequence[str] | None = None,
    ) -> None:
        """`shards`: the namespaces in which other operators may serve other TaskQueues (`Purging`)."""
        self._store = store
        self._synced = synced
        self._status = status = StatusWriter(cluster, store)
        self.loops = ScalingLoops(cluster, store, status)
        self._secrets = SecretCache(cluster, lambda key: self.work.add(key))
        self._keeper = ScheduleKeeper(cluster, store, status)
        self._purging = Purging(cluster, store, status, shards)
        reconciler = Reconciler(cluster, store, status, self.loops, self._secrets, self._keeper, self._purging)
        self.work = WorkQueue(reconciler.reconcile)
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._synced()  # before that, a child that is not in the store may well be in the cluster
        for key in self._store.queues:
            self.work.add(key)
        await self.work.run()

    @property
    def figures(self) -> TermFigures:
        return TermFigures(self.work, self.loops.figures, self.loops.redis_figures())

    async def close(self) -> None:
        """End what writes. `StuckTermError` when a loop goes on."""
        await end([self._running])
        await self._secrets.close()
        ended, *_ = await asyncio.gather(self.loops.close(), self._keeper.close(), self._purging.close())
        await self._status.close()
        if not ended:
            raise StuckTermError("a scaling loop does not end")
