"""Permission to write: an operator asks again for it when a command is about to leave the process.

It may lose its leadership at any moment. Between the question before an attempt and its command, the attempt waits for
a connection and for its turn on the loop, and a process may be stopped for half a minute meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

from redis.asyncio.connection import AbstractConnection

Ask = Callable[[], object]
"""Raises when nothing may be written."""

_ask: ContextVar[Ask | None] = ContextVar("taskfleet.redis.permission", default=None)


@contextlib.contextmanager
def asked_before_each_command(ask: Ask | None) -> Generator[None]:
    """Call `ask` for each command that this task sends to Redis, but not for the handshake of a new connection."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


class CommandCount:
    """Counts the commands that a task sends: given to `asked_before_each_command`, it permits them all."""

    def __init__(self) -> None:
        self.commands = 0

    def __call__(self) -> None:
        """Every command may leave."""

    def add(self, packed: Any) -> None:
        """Count the commands in what is about to leave."""
        data = packed if isinstance(packed, bytes) else b"".join(map(bytes, packed))
        at = 0
        while at < len(data):
            end = data.index(b"\r\n", at)
            parts, at = int(data[at + 1 : end]), end + 2
            for _ in range(parts):
                end = data.index(b"\r\n", at)
                at = end + 4 + int(data[at + 1 : end])
            self.commands += 1


def ask_for(packed: bytes) -> None:
    """Ask for what is about to leave on a connection that has no class of redis-py behind it."""
    ask = _ask.get()
    if ask is not None:
        ask()
        if isinstance(ask, CommandCount):
            ask.add(packed)


@functools.cache
def asking(connection: type[Any]) -> type[Any]:
    """This class of connections of redis-py, whose commands ask."""
    return type(f"Asking{connection.__name__}", (_Asking, connection), {})


class _Asking(AbstractConnection):
    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:  # a coroutine
        ask = _ask.get()
        if ask is None:
            return super().send_packed_command(command, check_health)
        return self._send_if_permitted(ask, command, check_health)

    async def _send_if_permitted(self, ask: Ask, command: Any, check_health: bool) -> None:
        if not self.is_connected:
            await self.connect()
        ask()
        if isinstance(ask, CommandCount):
            ask.add(command)
        await super().send_packed_command(command, check_health)

    async def connect(self) -> None:
        # A connection that is refused in the middle of its handshake would stay in its pool, half open.
        base: Any = super()
        with asked_before_each_command(None):
            await base.connect()
