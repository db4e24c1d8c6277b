"""What the Redis servers tell of themselves."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from redis import exceptions as redis_exceptions

from taskfleet.redis.queue_calls import QueueCalls

_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Replica:
    """`lag_seconds` since it last told how far it is; `bytes_behind` its master."""

    address: str
    online: bool
    lag_seconds: int
    bytes_behind: int


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """One server. `saves` is None when it does not tell whether it writes snapshots.

    `clock_seconds` is how far its clock is ahead of ours, known to within `clock_error_seconds`.
    """

    address: str
    version: str
    is_valkey: bool
    role: str
    policy: str
    most_bytes: int
    used_bytes: int
    appends: bool
    appends_well: bool
    saves: bool | None
    saves_well: bool
    replicas: tuple[Replica, ...]
    clock_seconds: float
    clock_error_seconds: float


async def servers(queues: QueueCalls) -> list[RedisFacts]:
    """The facts of all servers that hold keys."""
    clients: list[Any] = await queues.patiently(queues.client.masters)
    return [await queues.patiently(lambda client=client: _facts(client)) for client in clients]


async def _facts(client: Any) -> RedisFacts:
    info: dict[str, Any] = {}
    for section in ("server", "memory", "persistence", "replication"):
        info |= await client.info(section)
    saves: bool | None = None
    with contextlib.suppress(redis_exceptions.ResponseError):  # few users may ask
        saves = bool((await client.config_get("save")).get("save"))
    clock, error = await _clock(client)
    where = client.connection_pool.connection_kwargs
    host, port = where.get("host"), where.get("port")
    return RedisFacts(
        address=f"{host}:{port}" if host else str(where.get("path") or info.get("tcp_port", "")),
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        is_valkey="valkey_version" in info,
        role=str(info.get("role", "")),
        policy=str(info.get("maxmemory_policy", "")),
        most_bytes=_whole(info.get("maxmemory")),
        used_bytes=_whole(info.get("used_memory")),
        appends=info.get("aof_enabled") == 1,
        appends_well=info.get("aof_last_write_status", "ok") == "ok",
        saves=saves,
        saves_well=info.get("rdb_last_bgsave_status", "ok") == "ok",
        replicas=_replicas(info),
        clock_seconds=clock,
        clock_error_seconds=error,
    )


async def _clock(client: Any) -> tuple[float, float]:
    """(how far its clock is ahead of ours, the largest error), of the sample that took the shortest time."""
    best = (0.0, float("inf"))
    for _ in range(_SAMPLES):
        before, began = time.time(), time.monotonic()
        seconds, micros = await client.time()
        half = (time.monotonic() - began) / 2
        if half < best[1]:
            best = (seconds + micros / 1e6 - (before + half), half)
    return best


def _replicas(info: dict[str, Any]) -> tuple[Replica, ...]:
    offset, found = _whole(info.get("master_repl_offset")), list[Replica]()
    for number in range(_whole(info.get("connected_slaves"))):
        one = info.get(f"slave{number}")
        if isinstance(one, dict):
            address = f"{one.get('ip')}:{one.get('port')}"
            behind = max(0, offset - _whole(one.get("offset")))
            found.append(Replica(address, one.get("state") == "online", _whole(one.get("lag")), behind))
    return tuple(found)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
