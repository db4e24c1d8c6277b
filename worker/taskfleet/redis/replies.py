"""What Redis answers, bounded: no server can make a client hold more than one reply may have.

Redis itself has no such bound, and whoever can write to it decides how long a value is. The bytes of a reply are
counted as they come: beyond the bound the connection is closed, and the caller gets a `TooLongError`, which may mean to
ask for less at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from redis import exceptions as redis_exceptions
from redis.asyncio.connection import _AsyncHiredisParser  # type: ignore[attr-defined,unused-ignore]

REPLY_BYTES = 64 * 1_048_576
_LINE_BYTES = 1_048_576  # of an error, a status or a number, which is looked through again with each packet
_ELEMENTS = 1_000_000  # of a list: each costs memory, however few bytes it has
_LINES = b"-+:(,#_"
# How many bytes each of the announced takes at least: of a bulk, a list, a set, pairs, a message.
_ANNOUNCED = {ord("$"): 1, ord("*"): 3, ord("~"): 3, ord("%"): 6, ord(">"): 3}
_ERROR_CHARACTERS = 1000  # ours are shorter; a server that sends more has nothing more to say


class TooLongError(redis_exceptions.InvalidResponse):
    """One reply has more bytes than a client takes."""


def bound(stored_bytes: int) -> int:
    """The bound on one reply for those who store up to `stored_bytes` at once: a few of those, beside what comes with
    them."""
    return REPLY_BYTES + 2 * stored_bytes


def parser(reply_bytes: int) -> Callable[..., Any]:
    """redis-py's option `parser_class`."""
    return functools.partial(BoundedParser, reply_bytes=reply_bytes)


def one_line(text: str, most: int) -> str:
    """What a server says, fit for an error or a log: one line of printable characters, cut where it is too long."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(character if character.isprintable() else "\ufffd" for character in cut)
    return cut if len(text) <= most else f"{cut}… ({len(text)} characters)"


class BoundedParser(_AsyncHiredisParser):
    """redis-py's parser, which counts the bytes of each reply."""

    def __init__(self, socket_read_size: int, reply_bytes: int = REPLY_BYTES) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._reply_bytes = reply_bytes
        self._most = reply_bytes
        self._taken = 0

    def parse_error(self, response: str) -> Exception:  # type: ignore[override]
        """The exception for an error that Redis has sent."""
        parse: Callable[[str], Exception] = super().parse_error
        return parse(one_line(response, _ERROR_CHARACTERS))

    def _begin(self, head: bytes) -> None:
        """Look at how a reply begins: its length is known before it comes, and memory is taken for all of a list."""
        if head[0] in _LINES:
            self._most = min(self._most, _LINE_BYTES)
        elif head[0] in _ANNOUNCED and (length := head[1 : head.find(b"\r")]).isdigit():
            size = int(length[:20]) * _ANNOUNCED[head[0]]
            if size > self._most or (head[:1] != b"$" and int(length[:20]) > _ELEMENTS):
                raise TooLongError(f"one reply has more than {self._most} bytes or {_ELEMENTS} elements: {head[:20]!r}")

    async def read_from_socket(self) -> Any:
        stream: Any = self._stream
        reader: Any = self._reader
        buffer = await stream.read(self._read_size)
        if not buffer:
            raise redis_exceptions.ConnectionError("Connection closed by server.")
        if not self._taken and not reader.has_data():
            self._begin(buffer)
        # What follows this reply in the same packet counts too, and is no more than one read.
        self._taken += len(buffer)
        if self._taken > self._most:
            raise TooLongError(f"one reply has more than {self._most} bytes")
        reader.feed(buffer)
        return True

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        self._taken = 0
        self._most = self._reply_bytes
        try:
            return await super().read_response(disable_decoding=disable_decoding, push_request=push_request)
        except (MemoryError, TypeError, ValueError, OverflowError) as error:
            # An array whose announced length there is no memory for, a key that has no hash.
            raise redis_exceptions.InvalidResponse(f"no reply of Redis: {str(error) or type(error).__name__}") from None
