"""A server that speaks the protocol of Redis and gives answers that no Redis would give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Self

from tests.support.serving import serving

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
        return f"redis://127.0.0.1:{self._port}/0"

    async def __aenter__(self) -> Self:
        self._serving = serving(self._answer)
        self._port = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._serving.__aexit__(*error)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await _command(reader):
            self.asked.append(command[0].upper())
            answer = self.answers.get(command[0].upper(), OK)
            for part in (answer,) if isinstance(answer, bytes) else answer:
                writer.write(part)
                await writer.drain()
                self.sent += len(part)


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
