"""The calls of a worker's lease thread, on a separate connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from taskfleet.protocol.claim import HeldTask, Renewal
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import keys
from taskfleet.redis.calls import tasks
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.connection import SyncClient

R = TypeVar("R")


class RedisRenewer:
    """Renews leases and sends heartbeats.

    Its calls block, for use in one thread; errors of Redis are raised as they are.
    """

    def __init__(self, client: SyncClient, prefix: str) -> None:
        self._prefix = prefix
        self._fleet = keys.FleetKeys(prefix)
        self._client = client

    def renew(
        self, partition: Partition, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[HeldTask]
    ) -> Renewal:
        """Prolong the leases of tasks of one partition."""
        names = keys.of_partition(self._prefix, partition)
        return self._call(tasks.renew(names, incarnation, held, lease_ms=lease_ms, busy_ms=busy_ms))

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: HeartbeatFields) -> bool:
        """Report that the worker is alive; returns whether it is cordoned."""
        return self._call(tasks.heartbeat(self._fleet, worker_id, name, ttl_ms=ttl_ms, fields=fields))

    def _call(self, call: ScriptCall[R]) -> R:
        return call.read(self._client.run(call.script, call.keys, call.args))

    def dropped(self, error: BaseException) -> None:
        """React to a failed call: the next call opens another connection."""
        self._client.dropped(error)

    def close(self) -> None:
        self._client.close()
