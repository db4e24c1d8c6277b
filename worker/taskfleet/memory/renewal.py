"""The calls of a worker's lease thread, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.memory.store import Beat, MemoryStore
from taskfleet.protocol.claim import HeldTask, Renewal
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.partitions import Partition


class InMemoryRenewer:
    """Renews leases and keeps heartbeats, for the lease thread of a worker."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def renew(
        self, partition: Partition, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[HeldTask]
    ) -> Renewal:
        """Renew the leases of tasks of one partition."""
        with self._store.queue(partition) as model:
            return model.renew(self._store.now(), incarnation, lease_ms, busy_ms, held)

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: HeartbeatFields) -> bool:
        """Report that the worker is alive; returns whether it is cordoned."""
        store = self._store
        with store.lock:
            now = store.now()
            store.workers[worker_id] = Beat(
                now, now + ttl_ms, {key: str(value) for key, value in fields._asdict().items()}
            )
            store.introduced[fields.incarnation] = worker_id
            for other in [other for other, beat in store.workers.items() if beat.at_ms <= now - 10 * ttl_ms]:
                del store.workers[other]
            return store.cordons.get(name, 0) > now

    def dropped(self, error: BaseException) -> None:
        """No call can fail."""

    def close(self) -> None:
        """There is no connection."""
