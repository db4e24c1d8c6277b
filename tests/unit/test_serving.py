"""A server of a test leaves nothing behind, whatever its clients do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from tests.support.serving import serving, serving_http


async def test_a_client_that_reads_nothing_leaves_no_connection() -> None:
    started = asyncio.Event()

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 10_000_000)
        started.set()
        await writer.drain()

    async with serving(flood) as port:
        _, client = await asyncio.open_connection("127.0.0.1", port)
        client.transport.pause_reading()  # type: ignore[attr-defined]
        await started.wait()
    gc.collect()  # an unclosed transport would be a warning now, and so an error
    client.transport.abort()
    await asyncio.sleep(0)


async def test_a_handler_that_waits_ends_with_the_server() -> None:
    ended = asyncio.Event()
    running = asyncio.Event()

    async def wait(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(wait) as port:
        _, client = await asyncio.open_connection("127.0.0.1", port)
        await running.wait()
    assert ended.is_set()
    client.close()
    await client.wait_closed()


@contextlib.asynccontextmanager
async def streams() -> AsyncIterator[int]:
    async def wait(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(wait) as port:
        yield port


def requests() -> contextlib.AbstractAsyncContextManager[int]:
    return serving_http(web.Application(), shutdown_timeout=0.1)


@pytest.mark.parametrize("rounds", range(8))
@pytest.mark.parametrize("server", [streams, requests])
def test_a_client_that_comes_at_the_very_end_leaves_no_connection(
    server: Callable[[], contextlib.AbstractAsyncContextManager[int]], rounds: int
) -> None:
    async def serve() -> None:
        async with server() as port:
            clients.append(socket.create_connection(("127.0.0.1", port)))
            for _ in range(rounds):  # it is accepted, it has a transport, it has a handler, …
                await asyncio.sleep(0)

    clients: list[socket.socket] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(serve())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()
    clients[0].close()
