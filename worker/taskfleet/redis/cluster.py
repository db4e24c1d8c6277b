"""The client for a Redis Cluster: it finds the server of a key and follows keys that move."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from redis import exceptions as redis_exceptions
from redis.commands import AsyncCoreCommands
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from taskfleet.redis.connection import RedisClient
from taskfleet.redis.connection_options import ConnectionOptions
from taskfleet.redis.held_connections import Lines
from taskfleet.redis.redis_errors import is_connection_lost, is_stale
from taskfleet.redis.scripts import Script
from taskfleet.redis.server import Server, outcome_of
from taskfleet.redis.urls import Host

_REDIRECTS = 5
_LOOK_SECONDS = 2.0  # how long one server may take to describe the Cluster before the next is asked

Send = Callable[[Server], Awaitable[Any]]


class ClusterClient(RedisClient):
    """A `RedisClient` for a Cluster. All keys of a call must share one hash tag, as the keys of a queue do.

    redis-py's client is not used: it sends ASKING on any free connection, closes every connection after one
    CLUSTERDOWN, and spends more on a call than the call costs.
    """

    one_slot_only = True

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self.url = options.url
        self._seeds = options.address.hosts
        self._servers: dict[Host, Server] = {}
        self._slots: list[Host | None] = []
        self._outdated = True
        self._looking = asyncio.Lock()
        self.redis: Any = _Commands(self)

    # Calls.

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        async def ask(server: Server) -> Any:
            return await _asking(server, "EVAL", script.source, len(keys), *keys, *args)

        return await self.at(slot_of(keys[0]), lambda server: server.run(script, keys, args), ask)

    def lines_at(self, key: str) -> Lines | None:
        host = None if self._outdated or not self._slots else self._slots[slot_of(key)]
        server = None if host is None else self._servers.get(host)
        return None if server is None or server.lines.full else server.lines

    async def run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """One round trip for each server, to all servers at the same time."""
        groups: dict[int, list[int]] = defaultdict(list)
        servers: dict[int, Server] = {}
        for n, (keys, _) in enumerate(calls):
            server = await self._server_of(slot_of(keys[0]))
            servers[id(server)] = server
            groups[id(server)].append(n)
        replies: list[Any] = [None] * len(calls)

        async def send(server: Server, numbers: list[int]) -> None:
            batch = [calls[n] for n in numbers]
            for n, reply in zip(numbers, await self.watched(server, lambda s: s.send_many(script, batch)), strict=True):
                replies[n] = reply

        await asyncio.gather(*(send(servers[key], numbers) for key, numbers in groups.items()))
        for n, reply in enumerate(replies):
            if isinstance(reply, (redis_exceptions.NoScriptError, redis_exceptions.AskError)):
                # Redis has not executed this call: its slot has moved, or the server has no copy of the script yet.
                replies[n] = await outcome_of(self.run(script, *calls[n]))
        return replies

    async def blocking_pop(self, keys: Sequence[str], timeout: float) -> tuple[str, bytes] | None:
        popped: tuple[str, bytes] | None = await self.at(slot_of(keys[0]), lambda s: s.blocking_pop(keys, timeout))
        return popped

    async def pop_and_run(
        self,
        key: str,
        timeout: float,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        arrived: Callable[[Any], None],
    ) -> None:
        await self.at(slot_of(key), lambda server: server.pop_and_run(key, timeout, script, keys, args, arrived))

    def publisher(self) -> Server:
        # A Cluster forwards published messages, so any server will do. Before the first look at the Cluster, a seed is
        # used.
        host = random.choice([*self._masters(), *self._seeds])
        return self._open_server(host)

    async def scan(self, match: str, *, count: int = 1000) -> AsyncIterator[bytes]:
        for server in await self.servers():
            async for key in server.commands.scan_iter(match=match, count=count):
                yield key

    async def redis_of(self, key: str) -> Any:
        return (await self._server_of(slot_of(key))).commands

    async def masters(self) -> list[Any]:
        return [server.commands for server in await self.servers()]

    # Which server.

    async def at(self, slot: int, send: Send, ask: Send | None = None) -> Any:
        """Run `send` on the server of the slot, also when the slot moves.

        `ask` takes its place for a server that is importing the slot.
        """
        server = await self._server_of(slot)
        for _ in range(_REDIRECTS):
            try:
                return await self.watched(server, send)
            except redis_exceptions.MovedError as error:
                host = self._host(error, server)
                self._slots[slot] = host
                self._outdated = True
                server = self._open_server(host)
            except redis_exceptions.AskError as error:
                if ask is None:
                    raise
                return await self.watched(self._open_server(self._host(error, server)), ask)
        raise redis_exceptions.ClusterDownError("slot is moved on and on", status_code="CLUSTERDOWN")

    async def servers(self) -> list[Server]:
        """All masters."""
        await self._look_if_outdated()
        return [self._open_server(host) for host in sorted(self._masters())]

    def _masters(self) -> set[Host]:
        return {host for host in self._slots if host}

    async def watched(self, server: Server, send: Send) -> Any:
        """Run `send`.

        After a failure, the server's connections and the known layout of the Cluster are no longer trusted.
        """
        try:
            return await send(server)
        except (redis_exceptions.RedisError, OSError) as error:
            if is_stale(error):
                self._outdated = True
                await server.forget()
            raise

    async def _server_of(self, slot: int) -> Server:
        await self._look_if_outdated()
        host = self._slots[slot]
        if host is None:
            self._outdated = True
            raise redis_exceptions.ClusterDownError("Hash slot not served", status_code="CLUSTERDOWN")
        return self._open_server(host)

    def _open_server(self, host: Host) -> Server:
        server = self._servers.get(host)
        if server is None:
            options = {**self.options.for_data_servers(), "host": host[0], "port": host[1]}
            server = self._servers[host] = Server(
                options, self.options.pool_size, self.options.timeouts, self.options.reply_bytes
            )
        return server

    def _host(self, error: redis_exceptions.AskError, asked: Server) -> Host:
        # An empty host stands for the host that has answered.
        return (str(error.host) or asked.host[0], int(error.port))

    async def _look_if_outdated(self) -> None:
        if not self._outdated:
            return
        async with self._looking:
            if self._outdated:
                await self._look()

    async def _look(self) -> None:
        """Read which server holds which slot, from the first server that answers."""
        known = list(self._masters())
        random.shuffle(known)
        failure: BaseException | None = None
        for host in dict.fromkeys((*known, *self._seeds, *self._servers)):
            server = self._open_server(host)
            try:
                async with asyncio.timeout(min(_LOOK_SECONDS, self.options.timeouts.connect)):
                    ranges = await server.commands.execute_command("CLUSTER", "SLOTS")
            except redis_exceptions.ResponseError as error:
                if "cluster support disabled" in str(error).lower():
                    error = redis_exceptions.ResponseError(f"{host[0]}:{host[1]} is no Cluster; write redis://…")
                failure = error
                continue
            except (redis_exceptions.RedisError, OSError) as error:
                failure = failure or error
                await server.forget()
                continue
            slots: list[Host | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, master, *_ in ranges:
                # A server that does not know its address sends no host, or `?`: it is the server that was just asked.
                name = (master[0] or b"").decode()
                owner = (name if name not in ("", "?") else host[0], int(master[1]))
                slots[first : last + 1] = [owner] * (last + 1 - first)
            self._slots = slots
            self._outdated = False
            await self._disconnect_former_masters()
            return
        assert failure is not None
        raise failure

    async def _disconnect_former_masters(self) -> None:
        # Servers that hold no slot are kept without connections: a call may be on its way to one, and it may get slots
        # again.
        masters = self._masters()
        for host, server in list(self._servers.items()):
            if host not in masters:
                await server.forget()

    async def dropped(self, error: BaseException) -> None:
        # The failing server itself has been handled where it failed.
        if is_stale(error) or is_connection_lost(error):
            self._outdated = True

    def connections(self) -> list[Any]:
        """All of redis-py's connections that there are."""
        return [each for server in self._servers.values() for each in server.connections()]

    async def close(self) -> None:
        servers, self._servers = list(self._servers.values()), {}
        self._outdated = True
        for server in servers:
            await server.close()

    def abandon(self) -> None:
        servers, self._servers = list(self._servers.values()), {}
        self._outdated = True
        for server in servers:
            server.abandon()


def slot_of(key: str | bytes) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)


async def _asking(server: Server, *command: Any) -> Any:
    """Send ASKING and the command through one connection, since ASKING holds for the next command of its connection."""
    pipeline = server.commands.pipeline(transaction=False)
    pipeline.execute_command("ASKING")
    pipeline.execute_command(*command)
    return (await pipeline.execute())[1]


# The position of the first key in a command, where it is not the first argument.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "OBJECT": 2, "MEMORY USAGE": 1}
_EVERYWHERE = {"PING", "FLUSHALL", "FLUSHDB", "SCRIPT FLUSH", "SCRIPT LOAD", "CLIENT KILL", "CONFIG SET", "WAIT"}
_ANYWHERE = {"PUBLISH", "TIME", "INFO"}


# redis-py's mix-in has a method for every command; each of them ends in `execute_command`.
_CommandMethods: Any = AsyncCoreCommands


class _Commands(_CommandMethods):  # type: ignore[misc]
    """redis-py's commands, each sent to the server of its first key."""

    _event_dispatcher = None

    def __init__(self, client: ClusterClient) -> None:
        self._client = client

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        name = str(args[0]).upper()

        async def send(server: Server) -> Any:
            return await server.commands.execute_command(*args, **options)

        if name in _EVERYWHERE:
            replies = [await self._client.watched(server, send) for server in await self._client.servers()]
            return replies[0]
        if name in _ANYWHERE:
            return await self._client.watched(random.choice(await self._client.servers()), send)
        slot = slot_of(args[_KEY_AT.get(name, 1)])

        async def ask(server: Server) -> Any:
            return await _asking(server, *args)

        return await self._client.at(slot, send, ask)

    def scan_iter(self, match: Any = None, count: int | None = None, **_: Any) -> AsyncIterator[bytes]:
        return self._client.scan(match or "*", count=count or 1000)

    def pipeline(self, transaction: bool = False) -> _Pipeline:
        assert not transaction, "a transaction belongs into a script"
        return _Pipeline(self._client)


class _Pipeline(_CommandMethods):  # type: ignore[misc]
    """Commands that run at the same time; their replies have the order of the commands."""

    _event_dispatcher = None

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def execute_command(self, *args: Any, **options: Any) -> _Pipeline:
        self._commands.append((args, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self._commands = self._commands, []
        replies = await asyncio.gather(
            *(self._client.redis.execute_command(*args, **options) for args, options in commands),
            return_exceptions=not raise_on_error,
        )
        return list(replies)
