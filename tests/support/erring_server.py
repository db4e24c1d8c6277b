"""A server that greets like Redis, and answers every command with one fixed reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_GREETINGS = (b"SELECT", b"HELLO", b"CLIENT", b"AUTH")


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """The URL of such a server. With an empty `reply` it hangs up; with `b"..."` it never answers."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words: list[bytes] = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0].upper() in _GREETINGS:
                    writer.write(b"+OK\r\n")
                elif not reply:
                    break
                elif reply != b"...":
                    writer.write(reply)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
