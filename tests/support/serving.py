"""A server of a test: when the test is over, no connection and no task of it is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port on which each connection is given to `handler`, until the context ends or the handler returns.

    A handler is cancelled at the end. Connections are aborted, and not closed: a closed one stays until its client has
    read what was written, which a client that has gone never does.
    """
    open_: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_[task] = writer
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has hung up, or the test is over
        finally:
            writer.transport.abort()
            del open_[task]

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while open_:
            for task, writer in open_.items():
                writer.transport.abort()
                task.cancel()
            await asyncio.wait(open_)
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next round of the loop
