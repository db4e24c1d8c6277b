"""A connection of redis-py without its streams: bytes go to the transport, replies come from its callback.

redis-py connects, logs in and selects the database. After that a call is one write, and its replies are parsed where
they arrive. Through a stream each reply passes two more coroutines, which on an idle machine take longer than Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis import exceptions as redis_exceptions

from taskfleet.redis import replies, sockets

_NOTHING = object()
_PUSHED = hiredis.PushNotification


class Wire(asyncio.Protocol):
    """One connected connection, which carries one call at a time."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lost = False
        self.loop = asyncio.get_running_loop()
        self._bound = replies.bound_of(connection)
        self._parser = hiredis.Reader(
            protocolError=redis_exceptions.InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._arrived: Callable[[list[Any]], None] | None = None
        self._expected = 0
        self._replies: list[Any] = []
        self._transport, self._stream = sockets.take_over(connection, self)

    def send(
        self, packed: bytes, expected: int, arrived: Callable[[list[Any]], None] | None = None
    ) -> asyncio.Future[list[Any]]:
        """Send commands; the future gets their replies, errors of Redis included.

        `arrived` gets them before, in the callback of the transport, unless the future was cancelled. What it raises
        becomes the error of the future.
        """
        waiter = self._waiter = self.loop.create_future()
        self._expected, self._replies, self._arrived = expected, [], arrived
        if self.lost:
            self._fail(_closed())
        else:
            self._transport.write(packed)
        return waiter

    def fail(self, error: Exception) -> None:
        """End the present call with this error, and the connection with it."""
        self._fail(error)
        self.lost = True
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    # Callbacks of the transport.

    def data_received(self, data: bytes) -> None:
        parser, complete = self._parser, False
        try:
            self._bound.count(data, first=not parser.has_data())
            parser.feed(data)
            while (reply := parser.gets()) is not _NOTHING:
                complete = True
                if type(reply) is _PUSHED:
                    continue
                self._replies.append(reply)
                if len(self._replies) >= self._expected:
                    self._done()
            if complete:
                self._bound.begin()
        except redis_exceptions.RedisError as error:
            self.fail(error)
        except replies.UNREADABLE as error:
            self.fail(replies.no_reply(error))

    def _done(self) -> None:
        waiter, self._waiter = self._waiter, None
        found, self._replies = self._replies, []
        if waiter is None:
            raise redis_exceptions.InvalidResponse("Redis sent a reply to no call")
        if waiter.done():
            return
        if self._arrived is not None:
            try:
                self._arrived(found)
            except Exception as error:
                waiter.set_exception(error)
                return
        waiter.set_result(found)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fail(_closed() if exc is None else redis_exceptions.ConnectionError(str(exc)))
        self._stream.connection_lost(exc)  # whoever closes the connection of redis-py waits for this


def _closed() -> Exception:
    return redis_exceptions.ConnectionError("Connection closed by server.")
