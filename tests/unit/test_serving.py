"""A server of a test leaves nothing behind, whatever its clients do."""

from __future__ import annotations

import asyncio
import gc

from tests.support.serving import serving


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
