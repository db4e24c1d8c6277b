"""Bounds on the replies of Redis: no server can make a client hold more memory than one reply may take.

Redis has no such bound, and any client that can write to it decides how long a value is. The bytes of a reply are
counted as they arrive. Beyond the bound the connection is closed and the caller gets a `TooLongError`, after which it
may ask for less at a time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from redis import exceptions as redis_exceptions
from redis.asyncio.connection import _AsyncHiredisParser  # type: ignore[attr-defined,unused-ignore]

REPLY_BYTES = 64 * 1_048_576
_LINE_BYTES = 1_048_576  # for an error, a status or a number, which the parser scans again with each packet
_ELEMENTS = 1_000_000  # of a list: each takes memory, however few bytes it has
_LINES = b"-+:(,#_"
# The fewest bytes that each announced element takes, by the type of the reply: bulk, list, set, pairs, message.
_ANNOUNCED = {ord("$"): 1, ord("*"): 3, ord("~"): 3, ord("%"): 6, ord(">"): 3}
_ERROR_CHARACTERS = 1000  # errors of Taskfleet's scripts are shorter, and the end of a longer one adds nothing


class TooLongError(redis_exceptions.InvalidResponse):
    """One reply has more bytes than a client accepts."""


def bound(stored_bytes: int) -> int:
    """The bound on one reply for a client that stores up to `stored_bytes` at once: a few times that, plus overhead."""
    return REPLY_BYTES + 2 * stored_bytes


def parser(reply_bytes: int, secrets: Callable[[], Iterable[str]] = tuple) -> Callable[..., Any]:
    """The value of redis-py's option `parser_class`. `secrets` are in no error that it makes."""
    return functools.partial(BoundedParser, reply_bytes=reply_bytes, secrets=secrets)


_ECHO = re.compile(r",? with args beginning with: .*", re.DOTALL)
_CODE = re.compile(r"[A-Z]{3,}(?= |$)")
_WORD = 6  # a shorter secret may be a part of any word


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """An error of a server, without what it repeats of the call: a server that knows no HELLO repeats the login.

    It cuts what it repeats, so that a part of a secret may be left: the arguments go as a whole. The code of the error,
    its first word, stays.
    """
    text = _ECHO.sub("", text)
    start = found.end() if (found := _CODE.match(text)) else 0
    code, rest = text[:start], text[start:]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        pattern = re.escape(secret)
        rest = re.sub(pattern if len(secret) >= _WORD else rf"(?<!\w){pattern}(?!\w)", "(not shown)", rest)
    return code + rest


def one_line(text: str, most: int) -> str:
    """A text of a server, fit for an error or a log: one line of printable characters, of limited length."""
    cut = text[:most]
    if not cut.isprintable():
        cut = "".join(character if character.isprintable() else "\ufffd" for character in cut)
    return cut if len(text) <= most else f"{cut}… ({len(text)} characters)"


class ReplyBound:
    """Counts the bytes of one reply after the other as they arrive."""

    __slots__ = ("_most", "_reply_bytes", "_taken")

    def __init__(self, reply_bytes: int) -> None:
        self._reply_bytes = reply_bytes
        self.begin()

    def begin(self) -> None:
        """The next bytes belong to another reply."""
        self._taken = 0
        self._most = self._reply_bytes

    def count(self, data: bytes, *, first: bool) -> None:
        """Raise `TooLongError` when the reply becomes too long; `first` says that it begins with this data.

        Bytes of the next reply in the same packet are counted too; they are at most one read.
        """
        if first and not self._taken:
            self._check_head(data)
        self._taken += len(data)
        if self._taken > self._most:
            raise TooLongError(f"one reply has more than {self._most} bytes")

    def _check_head(self, head: bytes) -> None:
        """Check the announced length of a reply, before the parser allocates memory for a whole list."""
        if head[0] in _LINES:
            self._most = min(self._most, _LINE_BYTES)
        elif head[0] in _ANNOUNCED and (length := head[1 : head.find(b"\r")]).isdigit():
            size = int(length[:20]) * _ANNOUNCED[head[0]]
            if size > self._most or (head[:1] != b"$" and int(length[:20]) > _ELEMENTS):
                raise TooLongError(f"one reply has more than {self._most} bytes or {_ELEMENTS} elements: {head[:20]!r}")


def bound_of(connection: Any) -> ReplyBound:
    """The bound of a connection of which another parser reads the next reply."""
    bound: ReplyBound = connection._parser.bound
    bound.begin()  # it has counted the replies to the login
    return bound


class BoundedParser(_AsyncHiredisParser):
    """redis-py's parser, with a bound on each reply."""

    def __init__(
        self, socket_read_size: int, reply_bytes: int = REPLY_BYTES, secrets: Callable[[], Iterable[str]] = tuple
    ) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._secrets = secrets
        self.bound = ReplyBound(reply_bytes)

    def parse_error(self, response: str) -> Exception:  # type: ignore[override]
        """The exception for an error that Redis has sent."""
        parse: Callable[[str], Exception] = super().parse_error
        return parse(one_line(without_secrets(response, self._secrets()), _ERROR_CHARACTERS))

    async def read_from_socket(self) -> Any:
        stream: Any = self._stream
        reader: Any = self._reader
        buffer = await stream.read(self._read_size)
        if not buffer:
            raise redis_exceptions.ConnectionError("Connection closed by server.")
        self.bound.count(buffer, first=not reader.has_data())
        reader.feed(buffer)
        return True

    async def read_response(self, disable_decoding: bool = False, push_request: bool = False) -> Any:
        self.bound.begin()
        try:
            return await super().read_response(disable_decoding=disable_decoding, push_request=push_request)
        except UNREADABLE as error:
            raise no_reply(error) from None


UNREADABLE = (MemoryError, TypeError, ValueError, OverflowError)
"""Errors of the parser: an array whose announced length exceeds the memory, a map whose key cannot be hashed."""


def no_reply(error: BaseException) -> Exception:
    """The error for something that the parser cannot read."""
    return redis_exceptions.InvalidResponse(f"no reply of Redis: {str(error) or type(error).__name__}")
