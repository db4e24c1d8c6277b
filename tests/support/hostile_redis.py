"""A server that speaks the protocol of Redis and gives answers that no Redis would give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Self

OK = b"+OK\r\n"


class HostileRedis:
    """Answers each command whose name is in `answers` with those bytes, for as long as they last; all others with OK.

    `sent` counts the bytes of answers that clients have read.
    """

    def __init__(self, answers: dict[bytes, bytes | Iterable[bytes]]) -> None:
        self.answers = answers
        self.sent = 0
        self.asked: list[bytes] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._writers: set[asyncio.StreamWriter] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while command := await _command(reader):
                self.asked.append(command[0].upper())
                answer = self.answers.get(command[0].upper(), OK)
                for part in (answer,) if isinstance(answer, bytes) else answer:
                    writer.write(part)
                    await writer.drain()
                    self.sent += len(part)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has hung up
        finally:
            writer.transport.abort()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    head = await reader.readline()
    if not head:
        return []
    parts: list[bytes] = []
    for _ in range(int(head[1:])):
        length = int((await reader.readline())[1:])
        parts.append((await reader.readexactly(length + 2))[:-2])
    return parts


def endless(head: bytes, part: bytes) -> Iterator[bytes]:
    """`head`, and `part` for ever."""
    yield head
    while True:
        yield part
