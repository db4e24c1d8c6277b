"""The Redis servers that hold the queues, as their INFO describes them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from taskfleet.errors import BrokerConnectionError
from taskfleet.integrations.observing.machine_reports import ServerReport
from taskfleet.protocol.broker import Broker
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.cluster import ClusterClient
from taskfleet.redis.redis_errors import CallRefusedError

_TEXT_LIMIT = 100


class ServerFacts(NamedTuple):
    """What the servers tell. `servers` is None, with the reason in `unknown`, when they do not."""

    servers: list[ServerReport] | None
    unknown: str | None = None
    clock_ahead_seconds: float | None = None


async def read(broker: Broker) -> ServerFacts:
    """Ask all servers. It never fails: a user of Redis may lack the permission for INFO."""
    if not isinstance(broker, RedisBroker):
        return ServerFacts([])
    try:
        found: list[ServerReport] = []
        for address, commands in await _servers(broker):
            info = await broker.patiently(lambda commands=commands: commands.info())
            found.append(_report(address, info if isinstance(info, Mapping) else {}))
    except CallRefusedError as error:
        return ServerFacts(None, str(error), await _clock_ahead(broker))
    except BrokerConnectionError as error:
        return ServerFacts(None, str(error))
    return ServerFacts(found, clock_ahead_seconds=await _clock_ahead(broker))


def address_of(broker: Broker) -> str:
    """Where the queues are, without credentials."""
    return urls.address(broker.url) if isinstance(broker, RedisBroker) else broker.url


async def _servers(broker: RedisBroker) -> list[tuple[str, Any]]:
    client = broker.client
    if isinstance(client, ClusterClient):
        servers = await broker.patiently(client.servers)
        return [(f"{server.host[0]}:{server.host[1]}", server.commands) for server in servers]
    return [(urls.address(client.url), client.redis)]


async def _clock_ahead(broker: RedisBroker) -> float | None:
    """By the round trip of TIME: the answer is from its middle, give or take half of it."""
    before = time.time()
    try:
        seconds, micros = await broker.patiently(lambda: broker.client.redis.time())
    except (BrokerConnectionError, TypeError, ValueError):
        return None
    return float(round((before + time.time()) / 2 - (seconds + micros / 1e6), 3))


def _report(address: str, info: Mapping[str, Any]) -> ServerReport:
    def figure(name: str) -> int | None:
        value = info.get(name)
        return value if type(value) is int and value >= 0 else None

    def text(*names: str) -> str | None:
        value = next((info[name] for name in names if info.get(name) not in (None, "")), None)
        return None if value is None else str(value)[:_TEXT_LIMIT]

    used, limit = figure("used_memory"), figure("maxmemory") or None
    operations = info.get("instantaneous_ops_per_sec")
    return ServerReport(
        address=address,
        version=text("valkey_version", "redis_version"),
        uptime_seconds=figure("uptime_in_seconds"),
        role=text("role"),
        connected_clients=figure("connected_clients"),
        commands_per_second=float(operations) if isinstance(operations, (int, float)) else None,
        memory_bytes=used,
        peak_memory_bytes=figure("used_memory_peak"),
        memory_limit_bytes=limit,
        memory_policy=text("maxmemory_policy"),
        memory_ratio=used / limit if used is not None and limit is not None else None,
        evicted_keys=figure("evicted_keys"),
        persistent=_persistent(info),
    )


def _persistent(info: Mapping[str, Any]) -> bool | None:
    if info.get("aof_enabled") == 1:
        return True
    figures = [info.get(name) for name in ("rdb_last_save_time", "uptime_in_seconds", "server_time_usec")]
    whole = [figure for figure in figures if type(figure) is int]
    if "aof_enabled" not in info or len(whole) < len(figures):
        return None
    saved, uptime, now_micros = whole
    # A server that has never saved tells the time of its start.
    return saved > now_micros // 1_000_000 - uptime + 1
