"""Access to the sockets under redis-py's connections: when their event loop is closed, or a call has lost its socket.

asyncio and redis-py leave the sockets of a closed loop to the garbage collector, which warns of each one, and have no
function that closes them. This module is the only one that reaches for their private attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

from redis import exceptions as redis_exceptions
from redis.asyncio.connection import AbstractConnection


def descriptor_of(connection: Any) -> int:
    """The file descriptor of a connection; -1 when it has none."""
    writer = connection._writer
    sock = writer.get_extra_info("socket") if writer is not None else None
    return -1 if sock is None else int(sock.fileno())


def take_over(connection: Any, protocol: asyncio.BaseProtocol) -> tuple[Any, Any]:
    """Give the transport of a connection to `protocol`. Returns the transport, and the protocol that it had."""
    transport = connection._writer.transport
    before = transport.get_protocol()
    transport.set_protocol(protocol)
    return transport, before


def abandon(connection: Any) -> None:
    """Close the socket of a connection without waiting, also when its event loop is closed. It opens none again."""
    connection.abandoned = True  # a task that opens it just now may not have a socket yet
    writer, connection._writer, connection._reader = connection._writer, None, None
    if writer is None:
        return
    transport = writer.transport
    if not writer._loop.is_closed():
        transport.abort()  # in the next turn of the loop
        return
    with contextlib.suppress(RuntimeError, AttributeError):
        transport.abort()  # marks it as closing, and then fails for want of its loop
    if (tls := getattr(transport, "_ssl_protocol", None)) is not None:
        transport._closed = True
        transport = tls._transport
        with contextlib.suppress(RuntimeError, AttributeError):
            transport.abort()
    sock = getattr(transport, "_sock", None)  # uvloop has closed its socket already
    if sock is not None:
        sock.close()
        transport._sock = None


@functools.cache
def guarded(connection: type[Any]) -> Any:
    """This class of connections of redis-py, whose calls end with a `ConnectionError` when another task closes it.

    A pool that is told to close its free connections also closes those that it lends meanwhile. With a timeout redis-py
    sends from another turn of the loop than the one in which it has looked whether there is a socket. It takes a
    handshake for done whose connection was closed meanwhile, and connects anew for the next command: one that was
    abandoned would stay open.
    """
    return type(f"Guarded{connection.__name__}", (_Guarded, connection), {})


class _Guarded(AbstractConnection):
    abandoned = False

    async def connect(self) -> None:
        await super().connect()  # type: ignore[no-untyped-call,unused-ignore]
        if not self.is_connected:
            raise redis_exceptions.ConnectionError("the connection was closed while it was opened")

    async def _connect(self) -> None:
        if not self.abandoned:
            await super()._connect()  # type: ignore[no-untyped-call,safe-super,unused-ignore]
        if self.abandoned:
            abandon(self)
            raise redis_exceptions.ConnectionError("the connection was closed before it was open")

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Before Python 3.12 the `asyncio.wait_for` in it loses a cancellation that comes when the bytes have left."""
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        await super().send_packed_command(command, check_health)
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # nobody reads the reply
            raise asyncio.CancelledError

    async def _send_packed_command(self, command: Any) -> None:
        if not self.is_connected:
            raise redis_exceptions.ConnectionError("the connection was closed before the command was sent")
        await super()._send_packed_command(command)
