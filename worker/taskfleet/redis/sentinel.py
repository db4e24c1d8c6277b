"""Sentinels: every new connection asks them for the address of the master."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as redis_async
from redis import exceptions as redis_exceptions
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from taskfleet.redis import replies, sockets
from taskfleet.redis.connection_options import ConnectionOptions
from taskfleet.redis.credentials import passwords_in
from taskfleet.redis.tls import TlsConnection
from taskfleet.redis.urls import Host

_ANSWER_BYTES = 65_536
_ASK_SECONDS = 1.0  # for one Sentinel: the next one may answer at once


class Sentinels:
    """Asks the Sentinels one after the other, beginning with the one that answered last time."""

    def __init__(self, options: ConnectionOptions) -> None:
        self._name = options.address.master
        self._hosts = list(options.address.hosts)
        self._timeout = min(options.timeouts.connect, _ASK_SECONDS)
        self._options: dict[str, Any] = {**options.sentinel_login, "retry": Retry(NoBackoff(), 0)}
        if options.tls is not None:
            self._options["tls"] = options.tls

    async def master(self) -> Host:
        """The address of the master, according to the Sentinels. Raises redis-py's `ConnectionError`."""
        failure: BaseException | None = None
        for host in list(self._hosts):
            try:
                async with asyncio.timeout(2 * self._timeout):
                    answer = await self._ask(host)
            except (redis_exceptions.RedisError, OSError) as error:
                failure = failure or error
                continue
            if answer is None:
                failure = redis_exceptions.ConnectionError(f"the Sentinels know no master named {self._name!r}")
                continue
            self._hosts.remove(host)
            self._hosts.insert(0, host)
            return answer
        assert failure is not None
        raise failure

    async def _ask(self, host: Host) -> Host | None:
        options: dict[str, Any] = {
            "host": host[0],
            "port": host[1],
            "socket_connect_timeout": self._timeout,
            "socket_timeout": self._timeout,
            "connection_class": sockets.guarded(TlsConnection if "tls" in self._options else Connection),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "driver_info": None,
            "parser_class": replies.parser(_ANSWER_BYTES, lambda: passwords_in(self._options)),
            **self._options,
        }
        pool: Any = redis_async.ConnectionPool(**options)
        connection = pool.make_connection()
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "get-master-addr-by-name", self._name)
            answer = await connection.read_response()
        finally:
            sockets.abandon(connection)  # a task that is cancelled again, as at the end of the loop, waits for nothing
        return None if answer is None else (answer[0].decode(), int(answer[1]))


class _AsksSentinels(Connection):
    """Mix-in for connections that connect to the current master."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.master()
        await super()._connect()  # type: ignore[no-untyped-call,unused-ignore]


class SentinelConnection(_AsksSentinels):
    """A connection to the master."""


class SentinelTlsConnection(_AsksSentinels, TlsConnection):
    """A connection to the master under TLS."""
