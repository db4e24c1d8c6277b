"""Connections to Redis: one client for all topologies, which retries calls that fail for a moment.

A `RedisClient` talks to one server, or to the master that the Sentinels name; a `ClusterClient` talks to a Cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.backoff import backoff_seconds
from taskfleet.protocol import bounds
from taskfleet.redis import replies
from taskfleet.redis.connection_options import ConnectionOptions
from taskfleet.redis.held_connections import Lines
from taskfleet.redis.redis_errors import (
    call_too_large,
    connection_error,
    is_connection_closed,
    is_connection_lost,
    is_stale,
    is_too_large,
    is_transient,
    is_wrong_server,
)
from taskfleet.redis.scripts import Script
from taskfleet.redis.server import Server

logger = showing.logger("taskfleet.redis")

_MOST_PAUSE_SECONDS = 0.5  # between the attempts of a call that has a waiting caller
_ATTEMPTS = 3  # for a call to an unreachable server that no other server can replace


class RedisClient:
    """Runs scripts and commands on one server, and loads scripts that the server has lost.

    `one_slot_only`: whether all keys of one command must belong to one queue.
    """

    one_slot_only = False

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self.url = options.url
        self._server = self._open(options)
        # redis-py's retries are off. Each operation retries itself, since only it knows whether it can be sent twice.
        # Any: redis-py's stubs give each reply the types of all protocols and decodings at once.
        self.redis: Any = self._server.commands

    def _open(self, options: ConnectionOptions) -> Server:
        address = options.address
        of_server = options.for_data_servers()
        if address.kind == "sentinel":
            from taskfleet.redis.sentinel import Sentinels  # only here: most programs know the address of their server

            of_server["sentinels"] = Sentinels(options)
        elif address.hosts:
            of_server["host"], of_server["port"] = address.hosts[0]
        return Server(of_server, options.pool_size, options.timeouts, options.reply_bytes)

    # Calls. Errors of Redis are raised as they are; see `patiently`.

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """One call of `script`."""
        return await self._server.run(script, keys, args)

    def lines_at(self, key: str) -> Lines | None:
        """The held connections to the server of a key, when it is known and one of them is free."""
        lines = self._server.lines
        return None if lines.full else lines

    async def run_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several calls of one script, in one round trip for each server."""
        found = await self.run_each(script, calls)
        for reply in found:
            if isinstance(reply, Exception):
                raise reply
        return found

    async def run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """As `run_many`, with the error in place of the reply to a call that Redis answers with one."""
        return await self._server.run_each(script, calls)

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        """(key, value) of the first list that has or gets an element; `None` after `timeout` seconds.

        It waits on a held connection, and so takes none from the pool.
        """
        return await self._server.blocking_pop(keys, timeout)

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

        `arrived` gets the reply of the script as soon as it is there.
        """
        await self._server.pop_and_run(key, timeout, script, keys, args, arrived)

    def publisher(self) -> Server:
        """A server where the messages of all scripts arrive."""
        return self._server

    async def listen(self, *channels: str) -> AsyncIterator[bytes]:
        """Messages on `channels`, without end. An empty one says that messages may have been missed."""
        failures = odd = 0
        timeouts = self.options.timeouts
        while True:
            try:
                async with self.publisher().subscription(channels, timeouts.connect + timeouts.command) as subscription:
                    failures = 0
                    yield b""
                    while True:
                        yield await subscription.next(timeouts.command)
            except Exception as error:
                # Also what redis-py raises for a message that is none: without its listener a program hears nothing.
                if not isinstance(error, (redis_exceptions.RedisError, OSError)):
                    odd += 1
                    if odd & (odd - 1) == 0:  # the first, the second, the fourth, …
                        why = replies.one_line(repr(error), 200)
                        logger.warning("a subscription got a message that is none and starts again: %s (%d)", why, odd)
                with contextlib.suppress(redis_exceptions.RedisError, OSError):
                    await self.dropped(error)
                failures += 1
                await asyncio.sleep(backoff_seconds(failures))

    async def scan(self, match: str, *, count: int = 1000) -> AsyncIterator[bytes]:
        """All keys that match, of all servers."""
        async for key in self.redis.scan_iter(match=match, count=count):
            yield key

    async def redis_of(self, key: str) -> Any:
        """redis-py's client for the server that holds `key` now, for commands about a whole server."""
        return self._server.commands

    async def masters(self) -> list[Any]:
        """redis-py's clients for all servers that hold keys, for questions about the servers themselves."""
        return [self._server.commands]

    # Failures.

    async def dropped(self, error: BaseException) -> None:
        """React to a failure: replace connections that can no longer be trusted."""
        if is_stale(error):
            await self._server.forget()

    async def patiently(self, operation: Any, call_bytes: int = 0) -> Any:
        """Run `await operation(attempt)` until it succeeds; the last failure is a `TaskQueueError`.

        An unreachable server is tried three times. A failure that heals by itself (a server that is loading, a failover
        of Sentinels or of a Cluster) is retried for as long as a command may take. `attempt` counts from 0 and tells
        the operation whether it may have been sent before. `call_bytes` is the size of the call. A call that Redis
        refuses for its size is a `CallTooLargeError`: Redis says so, or it closes the connection but answers a ping.
        """
        began = time.monotonic()
        replaceable = self.options.address.kind != "standalone"
        attempt = 0
        while True:
            try:
                return await operation(attempt)
            except (redis_exceptions.RedisError, OSError) as error:
                with contextlib.suppress(redis_exceptions.RedisError, OSError):
                    await self.dropped(error)
                attempt += 1
                if call_bytes > bounds.SURE_BYTES and await self._is_refused(error, attempt):
                    raise call_too_large(self.url, call_bytes) from None
                heals = replaceable or is_wrong_server(error) or not is_connection_lost(error)
                patient = heals and time.monotonic() - began < self.options.timeouts.command
                if not is_transient(error) or not (patient or attempt < _ATTEMPTS):
                    raise connection_error(self.url, error) from None
            await asyncio.sleep(min(_MOST_PAUSE_SECONDS, backoff_seconds(attempt - 1)))

    async def _is_refused(self, error: BaseException, attempt: int) -> bool:
        if is_too_large(error):
            return True
        if attempt < _ATTEMPTS or not is_connection_closed(error):
            return False
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await self.redis.ping()
            return True
        return False

    # Further clients.

    def another(self) -> RedisClient:
        """A client with separate connections, for another event loop."""
        return type(self)(self.options)

    def new_sync(self) -> SyncClient:
        """A client for a thread without an event loop."""
        return SyncClient(self)

    def connections(self) -> list[Any]:
        """All present connections of redis-py."""
        return self._server.connections()

    async def close(self) -> None:
        await self._server.close()

    def abandon(self) -> None:
        """Close all connections without waiting, also those of a closed event loop. The next call opens others."""
        self._server.abandon()
        self._server = self._open(self.options)
        self.redis = self._server.commands


class SyncClient:
    """Runs scripts from one thread with its own event loop, with the same topologies and the same recovery."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client.another()
        self._runner: asyncio.Runner | None = None

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """One call of `script`. Errors of Redis are raised as they are; see `dropped`."""
        return self._in_loop(self._client.run(script, keys, args))

    def dropped(self, error: BaseException) -> None:
        """React to a failure."""
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            self._in_loop(self._client.dropped(error))

    def _in_loop(self, call: Any) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(call)

    def close(self) -> None:
        if self._runner is not None:
            with contextlib.suppress(redis_exceptions.RedisError, OSError):
                self._runner.run(self._client.close())
            self._runner.close()
            self._runner = None
