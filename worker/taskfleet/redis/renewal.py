"""The calls of a worker's lease thread, on a connection of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgpack

from taskfleet import foreign
from taskfleet.redis import keys, scripts
from taskfleet.redis.connection import SyncClient


class RedisRenewer:
    """Renews leases and sends heartbeats. Blocking, for one thread; errors of Redis pass through."""

    def __init__(self, client: SyncClient, prefix: str) -> None:
        self._prefix = prefix
        self._fleet = keys.FleetKeys(prefix)
        self._client = client

    def renew(
        self, queue: str, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[tuple[str, int]]
    ) -> tuple[list[str], list[str]]:
        """Prolong the leases of (id, delivery) in one partition: (ids that are not ours any more, ids to cancel)."""
        names = keys.of_queue(self._prefix, queue).all
        lost, cancelled = self._client.run(scripts.RENEW, names, (incarnation, lease_ms, busy_ms, msgpack.packb(held)))
        return [foreign.text(task_id) for task_id in lost], [foreign.text(task_id) for task_id in cancelled]

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: Mapping[str, str | int]) -> bool:
        """Say that the worker lives; returns whether it is cordoned."""
        fleet = self._fleet
        flat = [text for pair in fields.items() for text in pair]
        cordoned = self._client.run(
            scripts.HEARTBEAT, (fleet.workers, fleet.worker(worker_id), fleet.cordon(name)), (worker_id, ttl_ms, *flat)
        )
        return bool(cordoned)

    def dropped(self, error: BaseException) -> None:
        """Take note of a failed call: the next one makes another connection."""
        self._client.dropped(error)

    def close(self) -> None:
        self._client.close()
