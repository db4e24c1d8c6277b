"""One Redis server and the client's connections to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn

import redis.asyncio as redis_async
from redis import exceptions as redis_exceptions
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from taskfleet.redis import replies, sockets
from taskfleet.redis.connection_options import Timeouts
from taskfleet.redis.credentials import passwords_in
from taskfleet.redis.held_connections import Lines
from taskfleet.redis.packing import pack
from taskfleet.redis.permission import asking
from taskfleet.redis.scripts import Script
from taskfleet.redis.sockets import guarded
from taskfleet.redis.subscription import Subscription
from taskfleet.redis.urls import Host


class Server:
    """A connection pool for commands that answer at once, and a pool without a limit for commands that wait.

    A blocked command or a subscription holds its connection for long, and must not take a connection from the first
    pool.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        pool_size: int,
        timeouts: Timeouts,
        reply_bytes: int = replies.REPLY_BYTES,
    ) -> None:
        self.host: Host = (options.get("host", ""), options.get("port", 0))
        common: dict[str, Any] = {
            "socket_connect_timeout": timeouts.connect,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            # A handshake about maintenance, which only one vendor's servers know and which costs a round trip.
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            # Telling the server the library's name would cost two more commands.
            "driver_info": None,
            "parser_class": replies.parser(reply_bytes, lambda: passwords_in(options)),
            **options,
            "connection_class": asking(guarded(_connection_class(options))),
        }
        if "path" not in options:
            common["socket_keepalive"] = True
        self.commands: Any = redis_async.Redis(
            connection_pool=redis_async.BlockingConnectionPool(
                max_connections=pool_size,
                timeout=timeouts.connect + timeouts.command,
                socket_timeout=timeouts.command,
                **common,
            )
        )
        self.waiting: Any = redis_async.Redis(
            connection_pool=redis_async.ConnectionPool(max_connections=2**31, socket_timeout=None, **common)
        )
        self.lines = Lines(self.waiting.connection_pool, timeouts.command)
        self._blocked = Lines(self.waiting.connection_pool, timeouts.command)
        self._command_timeout = timeouts.command
        self._subscribed: dict[Any, Subscription | None] = {}  # by its connection

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if not self.lines.full:
            return await self.lines.run(script, keys, args)
        try:
            return await self.commands.evalsha(script.digest, len(keys), *keys, *args)
        except redis_exceptions.NoScriptError:
            # NOSCRIPT says that nothing was executed, so sending it again is safe.
            return await self.commands.eval(script.source, len(keys), *keys, *args)

    async def run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several calls in one round trip: the reply of each, or its error of Redis.

        A call that failed for want of the script is sent again, with the script.
        """
        replies = await self.send_many(script, calls)
        for n, reply in enumerate(replies):
            if isinstance(reply, redis_exceptions.NoScriptError):
                replies[n] = await outcome_of(self.run(script, *calls[n]))
        return replies

    async def send_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """The replies and exceptions of the calls, in order."""
        pipeline = self.commands.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(script.digest, len(keys), *keys, *args)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """(key, value) of the first list that has or gets an element; `None` after `timeout` seconds."""
        popped = await self._blocked.call("BLPOP", *keys, timeout, timeout=timeout + self._command_timeout)
        return None if popped is None else (popped[0].decode(), popped[1])

    async def pop_and_run(
        self,
        key: str,
        timeout: float,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        arrived: Callable[[Any], None],
    ) -> None:
        """Wait for an element of the list `key`, at most `timeout` seconds, and then run `script` without delay.

        `arrived` gets the reply of the script at once, within the callback of the transport.
        """

        def both(found: list[Any]) -> None:
            popped, reply = found
            if not isinstance(popped, Exception) and not isinstance(reply, Exception):
                arrived(reply)

        packed = pack("BLPOP", key, timeout) + pack("EVALSHA", script.digest, len(keys), *keys, *args)
        popped, reply = await self._blocked.exchange(packed, 2, timeout + self._command_timeout, both)
        if isinstance(popped, Exception):
            raise popped
        if isinstance(reply, redis_exceptions.NoScriptError):
            arrived(await self.run(script, keys, args))
        elif isinstance(reply, Exception):
            raise reply

    @contextlib.asynccontextmanager
    async def subscription(self, channels: Sequence[str], within: float) -> AsyncGenerator[Subscription]:
        """A subscription to these channels, which the server confirms within so many seconds."""
        connection = self.waiting.connection_pool.make_connection()
        self._subscribed[connection] = None
        try:
            # A connection that may wait has no time limit for its handshake.
            async with asyncio.timeout(within):
                await connection.connect()
                subscription = self._subscribed[connection] = Subscription(connection)
                await subscription.subscribe(channels)
            yield subscription
        finally:
            self._subscribed.pop(connection, None)
            await connection.disconnect(nowait=True)

    async def forget(self) -> None:
        """Use none of the present connections again. Connections in use are closed by their callers."""
        for subscription in filter(None, self._subscribed.values()):
            subscription.fail(redis_exceptions.ConnectionError("the connections to this server are replaced"))
        await self.lines.forget()
        await self._blocked.forget()
        for client in (self.commands, self.waiting):
            await client.connection_pool.update_active_connections_for_reconnect()
            await client.connection_pool.disconnect(inuse_connections=False)

    def connections(self) -> list[Any]:
        """The held connections, and those of the pools, in use or not."""
        pools = [client.connection_pool for client in (self.commands, self.waiting)]
        of_pools = [each for pool in pools for each in (*pool._available_connections, *pool._in_use_connections)]
        return [*self.lines.all, *self._blocked.all, *self._subscribed, *of_pools]

    async def close(self) -> None:
        await self.lines.forget(wait=True)
        await self._blocked.forget(wait=True)
        for client in (self.commands, self.waiting):
            await client.aclose()
            await client.connection_pool.disconnect()

    def abandon(self) -> None:
        """Close all connections without waiting, also those of a closed event loop. It opens none again."""
        for each in self.connections():
            sockets.abandon(each)
        for client in (self.commands, self.waiting):
            client.connection_pool.make_connection = _refuse  # for calls that wait for a connection just now


def _refuse() -> NoReturn:
    raise redis_exceptions.ConnectionError("the connections to this server were closed for good")


async def outcome_of(call: Awaitable[Any]) -> Any:
    """The reply of a call, or the error with which Redis has answered it."""
    try:
        return await call
    except redis_exceptions.ResponseError as error:
        return error


def _connection_class(options: Mapping[str, Any]) -> Any:
    if "path" in options:
        return options["connection_class"]
    if "sentinels" in options:
        from taskfleet.redis.sentinel import (
            SentinelConnection,
            SentinelTlsConnection,
        )  # only here: few programs ask them

        return SentinelTlsConnection if "tls" in options else SentinelConnection
    if "tls" in options:
        from taskfleet.redis.tls import TlsConnection  # only here: it is for rediss:// alone

        return TlsConnection
    return Connection
