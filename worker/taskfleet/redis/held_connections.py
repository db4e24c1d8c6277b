"""Held connections, for the calls that a queue makes most often.

A connection pool checks each connection before lending it, and redis-py prepares commands for every protocol. Both cost
more than Redis needs for a typical call. A line is a bare connection of redis-py: commands are packed in C, replies are
parsed in C, and nothing is checked in between. A line is closed after any error. Calls can be sent again, so no check
beforehand is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis import exceptions as redis_exceptions

from taskfleet.redis import redis_errors
from taskfleet.redis.scripts import Script

# Calls beyond this number use the pool in turn: a program may wait for thousands of results.
_MOST = 4


class Lines:
    """Held connections to one server. `pool` makes them; it must set no timeout of its own."""

    def __init__(self, pool: Any, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._free: list[Any] = []
        self._all: set[Any] = set()
        self._timed_out: set[Any] = set()
        self._closing: set[asyncio.Future[None]] = set()

    @property
    def all(self) -> list[Any]:
        """All lines, free and in use."""
        return list(self._all)

    @property
    def full(self) -> bool:
        """Whether all lines are in use."""
        return not self._free and len(self._all) >= _MOST

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
        line = self._free.pop() if self._free else await self._open()
        # Not asyncio.timeout, which costs as much as the call.
        timer = asyncio.get_running_loop().call_later(timeout or self._timeout, self._time_out, line)
        try:
            # Not redis-py's packer: its asyncio connections pack in Python, which takes 60 µs for the keys of a queue.
            packed = [hiredis.pack_command(tuple(command)) for command in commands]
            await line.send_packed_command(packed[0] if len(packed) == 1 else b"".join(packed), False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await line.read_response(disconnect_on_error=False))
                except redis_exceptions.ResponseError as error:
                    replies.append(error)
                    if redis_errors.is_too_large(error):
                        self._all.discard(line)  # Redis closes a connection after it has refused to read a call
        except BaseException as error:
            await self._close(line)
            if isinstance(error, Exception) and line in self._timed_out:
                raise redis_exceptions.TimeoutError(f"no answer within {timeout or self._timeout:g} s") from None
            raise
        finally:
            timer.cancel()
            self._timed_out.discard(line)
        # A line that was forgotten while it was in use is not used again.
        if line in self._all and line.is_connected:
            self._free.append(line)
        else:
            await self._close(line)
        return replies

    async def _open(self) -> Any:
        line = self._pool.make_connection()
        self._all.add(line)
        try:
            async with asyncio.timeout(self._timeout):
                await line.connect()
        except TimeoutError:
            await self._close(line)
            raise redis_exceptions.TimeoutError(f"no answer within {self._timeout:g} s") from None
        except BaseException:
            await self._close(line)
            raise
        return line

    def _time_out(self, line: Any) -> None:
        """Close the line of a call whose time is up, so that the call ends with an error."""
        self._timed_out.add(line)
        closing = asyncio.ensure_future(line.disconnect(nowait=True))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, line: Any) -> None:
        self._all.discard(line)
        await line.disconnect(nowait=True)

    async def forget(self, *, wait: bool = False) -> None:
        """Use none of the present lines again. Lines in use are closed by their callers.

        With `wait`, return when the free lines are closed: closing a TLS connection needs a running loop.
        """
        free, self._free = self._free, []
        self._all.clear()
        for line in free:
            await line.disconnect(nowait=not wait)
