"""A subscription to channels, on a connection of its own that redis-py has opened, without its streams (wire.py)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis
from redis import exceptions as redis_exceptions

from taskfleet import foreign
from taskfleet.redis import replies, sockets
from taskfleet.redis.packing import pack

_NOTHING = object()
_MOST_BYTES = 1_048_576  # of messages that wait for their reader; beyond it the server waits, too
_FRAME = 64
_QUIET_SECONDS = 15.0  # a subscription that has been silent for so long checks its connection


class Subscription(asyncio.Protocol):
    """The messages of some channels, from the confirmation of the subscription on."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._bound = replies.bound_of(connection)
        self._parser = hiredis.Reader(
            protocolError=redis_exceptions.InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False
        self._confirmed: set[bytes] = set()
        self._heard = 0  # reads: a part of a long message is a sign of life, too
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport, self._stream = sockets.take_over(connection, self)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Returns when the server confirms it: messages that are published from then on will arrive."""
        self._transport.write(pack("SUBSCRIBE", *channels))
        missing = {channel.encode() for channel in channels}
        while not missing <= self._confirmed:
            self._check()
            await self._wait(None)

    async def next(self, answer_within: float) -> bytes:
        """The next message; b"" for one that Taskfleet cannot have published, which only tells to look.

        A server that is silent must answer a ping within so many seconds.

        Errors: those of redis-py for a lost connection.
        """
        while not self._messages:
            self._check()
            heard = self._heard
            await self._wait(_QUIET_SECONDS)
            if self._heard == heard and self._error is None:
                self._transport.write(pack("PING"))
                await self._wait(answer_within)
                if self._heard == heard and self._error is None:
                    raise redis_exceptions.TimeoutError("a subscription does not answer")
        message = self._messages.popleft()
        self._bytes -= len(message) + _FRAME
        if self._paused and self._bytes < _MOST_BYTES // 2:
            self._paused = False
            self._transport.resume_reading()
        return message

    async def _wait(self, seconds: float | None) -> None:
        """Until something arrives, or for `seconds`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """End it with this error, and close its connection."""
        self._error = self._error or error
        self._transport.abort()
        self._wake()

    # Callbacks of the transport.

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        self._heard += 1
        try:
            self._bound.count(data, first=not parser.has_data())
            parser.feed(data)
            while (reply := parser.gets()) is not _NOTHING:
                self._bound.begin()
                self._take(reply)
        except (redis_exceptions.RedisError, *replies.UNREADABLE) as error:
            self.fail(error)
        self._wake()

    def _take(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, bytes):
            return  # the answer to a ping
        kind, *rest = reply
        if kind == b"message":
            _, data = rest
            message = data if isinstance(data, bytes) and len(data) <= foreign.MESSAGE_LIMIT else b""
            self._messages.append(message)
            self._bytes += len(message) + _FRAME
            if self._bytes > _MOST_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif kind == b"subscribe":
            self._confirmed.add(rest[0])

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = self._error or redis_exceptions.ConnectionError(
            "Connection closed by server." if exc is None else str(exc)
        )
        self._stream.connection_lost(exc)
        self._wake()
