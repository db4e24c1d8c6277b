"""The calls of a worker's lease thread, on a connection of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskfleet.engine import keys, scripts
from taskfleet.engine.scripts import Script


class RedisRenewer:
    """Renews leases and sends heartbeats. Blocking, for one thread; errors of Redis pass through."""

    def __init__(
        self, url: str, prefix: str, *, connect_timeout: float, command_timeout: float, **connection: Any
    ) -> None:
        self._prefix = prefix
        self._fleet = keys.FleetKeys(prefix)
        self._redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=connect_timeout,
            socket_timeout=command_timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            **connection,
        )

    def renew(
        self, queue: str, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[tuple[str, int]]
    ) -> tuple[list[str], list[str]]:
        """Prolong the leases of (id, delivery) in one partition: (ids that are not ours any more, ids to cancel)."""
        names = keys.of_queue(self._prefix, queue).all
        lost, cancelled = self._call(scripts.RENEW, names, (incarnation, lease_ms, busy_ms, msgpack.packb(held)))
        return [task_id.decode() for task_id in lost], [task_id.decode() for task_id in cancelled]

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: Mapping[str, str | int]) -> bool:
        """Say that the worker lives; returns whether it is cordoned."""
        fleet = self._fleet
        flat = [text for pair in fields.items() for text in pair]
        cordoned = self._call(
            scripts.HEARTBEAT, (fleet.workers, fleet.worker(worker_id), fleet.cordon(name)), (worker_id, ttl_ms, *flat)
        )
        return bool(cordoned)

    def disconnect(self) -> None:
        """Drop the connection; the next call makes another."""
        self._redis.connection_pool.disconnect()

    def close(self) -> None:
        self._redis.close()

    def _call(self, script: Script, names: tuple[str, ...], args: tuple[Any, ...]) -> Any:
        try:
            return self._redis.evalsha(script.digest, len(names), *names, *args)
        except redis_errors.NoScriptError:
            return self._redis.eval(script.source, len(names), *names, *args)
