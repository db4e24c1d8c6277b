"""Messagepack of unknown origin, unpacked within bounds.

One byte of messagepack can become 72 bytes of memory: an empty list or map. What is no longer than a limit is bounded
by that; what is longer (compressed bytes expand, and a reader may have lower limits than the writer) may hold no more
lists and maps than the limit has bytes, and twice as many elements. A record of ours holds one list and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, TypeVar

import msgpack

from taskfleet.errors import SerializationError

T = TypeVar("T", bound=Sized)

ELEMENTS_PER_BYTE = 2
FEWEST = 65_536  # so that a low limit does not stand in the way of what a small payload expands to


class _Count:
    """Counts what is unpacked, and ends it when it is too much."""

    def __init__(self, containers: int, elements: int) -> None:
        self._containers = self._containers_left = containers
        self._elements = self._elements_left = elements

    def __call__(self, container: T) -> T:
        self._containers_left -= 1
        self._elements_left -= len(container) if type(container) is not bytes else 1
        if self._containers_left < 0:
            raise SerializationError(f"it holds more than {self._containers} lists, maps and extensions")
        if self._elements_left < 0:
            raise SerializationError(f"it holds more than {self._elements} elements")
        return container


def within(data: bytes, limit: int, extension: Callable[[int, bytes], Any]) -> Any:
    """The value in `data`; what is longer than `limit` bytes must keep to the rule above.

    `extension` makes the value of an extension type. Errors: `SerializationError` whatever is wrong.
    """
    containers = max(limit, FEWEST)
    elements = ELEMENTS_PER_BYTE * containers
    try:
        if len(data) <= limit:
            return msgpack.unpackb(data, ext_hook=extension, strict_map_key=False)
        count = _Count(containers, elements)
        return msgpack.unpackb(
            data,
            strict_map_key=False,
            object_hook=count,
            list_hook=count,
            max_array_len=min(elements, len(data)),
            max_map_len=min(elements, len(data)),
            ext_hook=lambda code, body: extension(code, count(body)),
        )
    except SerializationError:
        raise
    except Exception as error:
        if "exceeds max_array_len" in str(error) or "exceeds max_map_len" in str(error):
            raise SerializationError(f"it holds more than {elements} elements") from None
        raise SerializationError(str(error) or type(error).__name__) from None


def record(data: bytes, *, most_bytes: int, containers: int = 1) -> list[Any]:
    """A list of texts and numbers that Redis or a worker has written; texts are bytes.

    `containers` is how many lists and maps there are in all. Errors: `SerializationError` whatever is wrong.
    """
    if len(data) > most_bytes:
        raise SerializationError(f"it has {len(data)} bytes; at most {most_bytes} are read")
    count = _Count(containers, len(data))
    try:
        found = msgpack.unpackb(data, raw=True, strict_map_key=False, object_hook=count, list_hook=count)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(str(error) or type(error).__name__) from None
    if type(found) is not list:
        raise SerializationError("it is no list")
    return found


def is_whole(data: bytes) -> bool:
    """Whether `data` is one messagepack value, of whatever kind. Nothing is built of it."""
    unpacker: Any = msgpack.Unpacker(max_buffer_size=len(data) or 1)
    try:
        unpacker.feed(data)
        unpacker.skip()
    except Exception:
        return False
    return bool(unpacker.tell() == len(data))


_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}


def list_head(data: bytes, at: int = 0) -> tuple[int, int]:
    """(how many elements, where they begin) of the list at a position; `SerializationError` when there is none."""
    first = data[at] if len(data) > at else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F, at + 1
    width = {0xDC: 2, 0xDD: 4}.get(first)
    if width is None or len(data) < at + 1 + width:
        raise SerializationError("it is no list")
    return int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width


def text(data: bytes, at: int) -> tuple[bytes, int]:
    """(the text or bytes at a position, where the next value begins); `SerializationError` when there are none."""
    first = data[at] if len(data) > at else 0
    if 0xA0 <= first <= 0xBF:
        start, length = at + 1, first & 0x1F
    elif first in _LENGTHS:
        start = at + 1 + _LENGTHS[first]
        length = int.from_bytes(data[at + 1 : start], "big")
    else:
        raise SerializationError("there is no text where one belongs")
    if start + length > len(data):
        raise SerializationError("it is cut off")
    return data[start : start + length], start + length


def binary(data: bytes, at: int) -> tuple[bytes, int]:
    """As `text`, of bytes only."""
    if data[at : at + 1] not in (b"\xc4", b"\xc5", b"\xc6"):
        raise SerializationError("there are no bytes where some belong")
    return text(data, at)


def texts(data: bytes) -> list[bytes]:
    """A list of texts; `SerializationError` for anything else."""
    count, at = list_head(data)
    if count > len(data):
        raise SerializationError("it is cut off")
    found: list[bytes] = []
    for _ in range(count):
        each, at = text(data, at)
        found.append(each)
    if at != len(data):
        raise SerializationError("something follows its list")
    return found
