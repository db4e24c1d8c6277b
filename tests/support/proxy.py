"""A proxy before a Redis server that loses replies, cuts connections and is late, on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

from tests.support.serving import serving


class Proxy:
    """Passes bytes on between a port of its own and the server's.

    `lose_reply(request)` is asked once for each chunk that a client sends: when true, the server gets it and does as
    it is told, and the connection breaks in place of the reply. `delay` holds every reply back, in seconds.
    """

    def __init__(self, target: int) -> None:
        self.target = target  # for new connections
        self.port = 0
        self.lose_reply: Callable[[bytes], bool] = lambda _request: False
        self.delay = 0.0
        self.refusing = False
        self.lost = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._serving = serving(self._accept)
        self.port = await self._serving.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._serving.__aexit__(*error)

    def cut(self) -> None:
        """Break every connection that stands now."""
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            return
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, to_server}
        losing = asyncio.Event()

        async def replies() -> None:
            while data := await from_server.read(65536):
                if losing.is_set():
                    self.lost += 1
                    break
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
            writer.transport.abort()

        back = asyncio.create_task(replies())
        try:
            while data := await reader.read(65536):
                if self.lose_reply(data):
                    losing.set()
                to_server.write(data)
        finally:
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await back
            to_server.transport.abort()
            self._writers -= {writer, to_server}
