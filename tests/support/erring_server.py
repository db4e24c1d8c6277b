"""A server that greets like Redis, and answers every command with one fixed reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.serving import serving

_GREETINGS = (b"SELECT", b"HELLO", b"CLIENT", b"AUTH")


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """The URL of such a server. With an empty `reply` it hangs up; with `b"..."` it never answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError):
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

    async with serving(answer) as port:
        yield f"redis://127.0.0.1:{port}/0"
