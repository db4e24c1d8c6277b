"""A server of a test: when the test is over, no connection and no task of it is left."""

from __future__ import annotations

import asyncio
import asyncio.trsock
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_ROUNDS = 10


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port on which each connection is given to `handler`, until the context ends or the handler returns.

    A handler is cancelled at the end. Connections are aborted, and not closed: a closed one stays until its client has
    read what was written, which a client that has gone never does.
    """
    loop = asyncio.get_running_loop()
    transports: set[asyncio.BaseTransport] = set()
    tasks: set[asyncio.Task[None]] = set()

    class Connection(asyncio.StreamReaderProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.add(transport)  # its handler may be cancelled before it has begun
            super().connection_made(transport)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has hung up, or the test is over
        finally:
            writer.transport.abort()
            transports.discard(writer.transport)
            tasks.discard(task)

    server = await loop.create_server(
        lambda: Connection(asyncio.StreamReader(loop=loop), accept, loop=loop), "127.0.0.1", 0
    )
    listener = server.sockets[0]
    try:
        yield listener.getsockname()[1]
    finally:
        await stop_accepting(listener)
        server.close()
        for transport in transports:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await _rounds()


@contextlib.asynccontextmanager
async def serving_http(app: web.Application, **options: Any) -> AsyncIterator[int]:
    """The port of an aiohttp server of which the same holds. `options` are those of `AppRunner`."""
    runner = web.AppRunner(app, **options)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener).start()
        try:
            yield listener.getsockname()[1]
        finally:
            await stop_accepting(listener)
            await runner.cleanup()
            await _rounds()


async def stop_accepting(listener: socket.socket | asyncio.trsock.TransportSocket) -> None:
    """Accept no more, and let the connections that were accepted have their transports.

    asyncio of Python 3.11 loses a connection without closing it when its server is closed in between.
    """
    asyncio.get_running_loop().remove_reader(listener.fileno())
    await _rounds()


async def _rounds() -> None:
    """As many rounds of the event loop as a connection needs to get its transport, or an aborted one to be closed."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
