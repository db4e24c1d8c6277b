"""Held connections, for the calls that a queue makes most often.

A connection pool checks each connection before lending it, and redis-py prepares commands for every protocol. Both cost
more than Redis needs for a typical call. A line is a connection that redis-py has opened, without streams (wire.py).
It is closed after any error. Calls can be sent again, so no check beforehand is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions as redis_exceptions

from taskfleet.redis import redis_errors
from taskfleet.redis.packing import pack
from taskfleet.redis.permission import ask_for
from taskfleet.redis.scripts import Script
from taskfleet.redis.wire import Wire

# Calls beyond this number use the pool in turn: a program may wait for thousands of results.
_MOST = 4


class Lines:
    """Held connections to one server. `pool` makes them; it must set no timeout of its own."""

    def __init__(self, pool: Any, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._free: list[Wire] = []
        self._all: set[Wire] = set()
        self._opening: set[Any] = set()

    @property
    def all(self) -> list[Any]:
        """The connections of all lines, free and in use."""
        return [*(line.connection for line in self._all), *self._opening]

    @property
    def full(self) -> bool:
        """Whether all lines are in use."""
        return not self._free and len(self._all) + len(self._opening) >= _MOST

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """One call of `script`, which is loaded when the server has lost it."""
        (reply,) = await self.calls(("EVALSHA", script.digest, len(keys), *keys, *args))
        if isinstance(reply, redis_exceptions.NoScriptError):
            # NOSCRIPT says that nothing was executed, so sending it again is safe.
            (reply,) = await self.calls(("EVAL", script.source, len(keys), *keys, *args))
        if isinstance(reply, redis_exceptions.ResponseError):
            raise reply
        return reply

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """The raw reply to one command. `timeout` in seconds; by default the timeout of commands."""
        (reply,) = await self.calls(command, timeout=timeout)
        if isinstance(reply, redis_exceptions.ResponseError):
            raise reply
        return reply

    async def calls(self, *commands: Sequence[Any], timeout: float | None = None) -> list[Any]:
        """The replies to commands that are sent together and run without delay between them, errors included.

        A blocking command holds back the commands behind it, which Redis runs as soon as it returns.
        """
        # Not redis-py's packer: its asyncio connections pack in Python, which takes 60 µs for the keys of a queue.
        packed = [pack(*command) for command in commands]
        return await self.exchange(packed[0] if len(packed) == 1 else b"".join(packed), len(packed), timeout)

    async def exchange(
        self,
        packed: bytes,
        expected: int,
        timeout: float | None = None,
        arrived: Callable[[list[Any]], None] | None = None,
    ) -> list[Any]:
        """The replies to commands that are packed already, as `calls` gives them. For `arrived` see `Wire.send`."""
        while self._free and self._free[-1].lost:
            await self._close(self._free.pop())
        line = self._free.pop() if self._free else await self._open()
        seconds = timeout or self._timeout
        try:
            ask_for(packed)
            replies = line.send(packed, expected, arrived)
            # Not asyncio.timeout, which costs as much as the call.
            timer = line.loop.call_later(seconds, _time_out, line, seconds)
            try:
                found = await replies
            finally:
                timer.cancel()
            for reply in found:
                if isinstance(reply, redis_exceptions.ConnectionError):
                    raise reply  # the server is loading, or has lost its master
        except BaseException:
            await self._close(line)
            raise
        if any(map(_is_refusal_of_size, found)):
            self._all.discard(line)  # Redis closes a connection after it has refused to read a call
        # A line that was forgotten while it was in use is not used again.
        if line in self._all and not line.lost:
            self._free.append(line)
        else:
            await self._close(line)
        return found

    async def _open(self) -> Wire:
        connection = self._pool.make_connection()
        self._opening.add(connection)
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
            line = Wire(connection)
            if connection in self._opening:
                self._all.add(line)
            return line
        except TimeoutError:
            await connection.disconnect(nowait=True)
            raise redis_exceptions.TimeoutError(f"no answer within {self._timeout:g} s") from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._opening.discard(connection)

    async def _close(self, line: Wire) -> None:
        self._all.discard(line)
        await line.connection.disconnect(nowait=True)

    async def forget(self, *, wait: bool = False) -> None:
        """Use none of the present lines again. Lines in use are closed by their callers.

        With `wait`, return when the free lines are closed: closing a TLS connection needs a running loop.
        """
        free, self._free = self._free, []
        self._all.clear()
        self._opening.clear()
        for line in free:
            await line.connection.disconnect(nowait=not wait)


def _time_out(line: Wire, seconds: float) -> None:
    line.fail(redis_exceptions.TimeoutError(f"no answer within {seconds:g} s"))


def _is_refusal_of_size(reply: Any) -> bool:
    return isinstance(reply, redis_exceptions.ResponseError) and redis_errors.is_too_large(reply)
