"""TCP connections that deliver nothing after the process has given a call up.

A closed socket goes on sending what the kernel holds for it, for minutes when the network is down. A write that was
given up because another operator leads by now would then take effect when the network comes back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import weakref
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

_UNHEARD_MS = 5000  # without an acknowledgement for so long, the kernel drops a connection with all that it holds
_NOTHING_AFTER_CLOSE = struct.pack("ii", 1, 0)
_CLOSE_POLL_SECONDS = 0.01
_CLOSE_POLLS = 200  # for the peer to take part in the end of a TLS connection


def connection(address: tuple[Any, ...]) -> socket.socket:
    """A socket for one address of `getaddrinfo`."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING_AFTER_CLOSE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
    return made


class ClosingConnector(aiohttp.TCPConnector):
    """Connections that are closed when `close` returns, and not only about to be: an event loop may end then."""

    def __init__(self, **options: Any) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__(socket_factory=self._connection, **options)

    def _connection(self, address: tuple[Any, ...]) -> socket.socket:
        made = connection(address)
        self._sockets.add(made)
        return made

    async def close(self, **options: Any) -> None:
        await super().close(**options)
        for _ in range(_CLOSE_POLLS):
            if all(each.fileno() == -1 for each in self._sockets):
                return
            await asyncio.sleep(_CLOSE_POLL_SECONDS)


def abort(response: aiohttp.ClientResponse) -> None:
    """End a response that is not read to its end, without a farewell to the server."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def without_late_writes(api: Any, ask: Callable[[str], None] = lambda _call: None) -> Any:
    """Let a client (`login.client`) use such connections. To be called on the loop that will use it.

    `ask(call)` is called for each write with a body when nothing but the system call is left to do, and raises when it
    must not be sent. An earlier answer is not enough: until then the call has waited for a connection and for its turn
    on the loop, and a process may be stopped for half a minute meanwhile.
    """
    rest = api.rest_client
    connector = ClosingConnector(limit=rest.maxsize, ssl=rest.ssl_context)
    # As the client makes its session itself; an event of a watch may be larger than aiohttp's buffer.
    rest.pool_manager = aiohttp.ClientSession(
        connector=connector, trust_env=True, read_bufsize=2**21, request_class=_asking(ask)
    )
    return api


def _asking(ask: Callable[[str], None]) -> type[aiohttp.ClientRequest]:
    class AskingRequest(aiohttp.ClientRequest):
        """A request whose head and body leave together, and only if they may."""

        async def write_bytes(
            self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
        ) -> None:
            if self.method != "GET" and "dryRun" not in self.url.query:
                try:
                    ask(f"{self.method} {self.url.path}")
                except Exception as error:
                    # The caller that waits for the answer, or is about to (Python 3.12 sends first), closes it.
                    if conn.protocol is not None:
                        conn.protocol.set_exception(aiohttp.ClientConnectionError(str(error)))
                    return
            await super().write_bytes(writer, conn, content_length)

    return AskingRequest
