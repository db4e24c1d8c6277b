"""Unpacking of messagepack of unknown origin, within bounds.

One byte of messagepack can become 72 bytes of memory: an empty list or map. The memory for a value up to the limit is
bounded by the limit itself. A value can be longer, since compressed bytes expand and a reader may have lower limits
than the writer. Such a value may hold at most as many lists and maps as the limit has bytes, and twice as many
elements. A record of Taskfleet holds only one list.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, TypeVar

import msgpack

from taskfleet.errors import SerializationError

T = TypeVar("T", bound=Sized)
Extension = Callable[[int, bytes], Any]

JSON_EXTENSION = 1
MESSAGEPACK_EXTENSIONS = (2, 3)  # extensions with messagepack as their body

ELEMENTS_PER_BYTE = 2
FEWEST = 65_536  # a low limit must not prevent the expansion of a small payload


class TooMuchError(SerializationError):
    """The value would have more lists, maps or elements than may be unpacked."""


class Budget:
    """A limit on unpacking: a number of lists, maps and extensions, and a number of elements. Several values can share
    it.

    Errors: `TooMuchError` for a value beyond it.
    """

    def __init__(self, containers: int, elements: int) -> None:
        self.containers = self._containers_left = containers
        self.elements = self._elements_left = elements

    @classmethod
    def of_limit(cls, limit: int) -> Budget:
        """The budget for a value of more than `limit` bytes."""
        containers = max(limit, FEWEST)
        return cls(containers, ELEMENTS_PER_BYTE * containers)

    def take(self, container: T) -> T:
        """msgpack's hook for lists and maps."""
        self.spend(1, len(container))
        return container

    def spend(self, containers: int, elements: int) -> None:
        self._containers_left -= containers
        self._elements_left -= elements
        if self._containers_left < 0:
            raise TooMuchError(f"it holds more than {self.containers} lists, maps and extensions")
        if self._elements_left < 0:
            raise TooMuchError(f"it holds more than {self.elements} elements")


def within(data: bytes, limit: int, extension: Extension, budget: Budget | None = None) -> Any:
    """The value in `data`. A value of more than `limit` bytes must keep within the `budget`, or the module's bounds.

    `extension` makes the value of an extension type, and may spend from the budget. All errors are
    `SerializationError`.
    """
    if budget is None and len(data) > limit:
        budget = Budget.of_limit(limit)
    try:
        if budget is None:
            return msgpack.unpackb(data, ext_hook=extension, strict_map_key=False)
        return _counted(data, extension, budget)
    except SerializationError:
        raise
    except Exception as error:
        if budget is not None and ("exceeds max_array_len" in str(error) or "exceeds max_map_len" in str(error)):
            raise TooMuchError(f"it holds more than {budget.elements} elements") from None
        raise SerializationError(str(error) or type(error).__name__) from None


def _counted(data: bytes, extension: Extension, budget: Budget) -> Any:
    def counted(code: int, body: bytes) -> Any:
        budget.spend(1, 1)
        if code in MESSAGEPACK_EXTENSIONS:
            # The body is unpacked later, by its own reader: its elements are counted now.
            _counted(body, extension, budget)
        elif code == JSON_EXTENSION:
            budget.spend(body.count(b"[") + body.count(b"{"), 0)
        return extension(code, body)

    most = min(budget.elements, len(data))
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        object_hook=budget.take,
        list_hook=budget.take,
        max_array_len=most,
        max_map_len=most,
        ext_hook=counted,
    )


def record(data: bytes, *, most_bytes: int, containers: int = 1) -> list[Any]:
    """A list of texts and numbers that Redis or a worker has written; texts are bytes.

    `containers` is the number of lists and maps in all. All errors are `SerializationError`.
    """
    if len(data) > most_bytes:
        raise SerializationError(f"it has {len(data)} bytes; at most {most_bytes} are read")
    budget = Budget(containers, len(data))
    try:
        found = msgpack.unpackb(data, raw=True, strict_map_key=False, object_hook=budget.take, list_hook=budget.take)
    except SerializationError:
        raise
    except Exception as error:
        raise SerializationError(str(error) or type(error).__name__) from None
    if type(found) is not list:
        raise SerializationError("it is no list")
    return found


def decoded(part: bytes, most: int) -> str:
    """The first `most` characters of a text; bytes that are no UTF-8 are replaced."""
    return part[: 4 * most].decode("utf-8", "replace")[:most]


def is_whole(data: bytes) -> bool:
    """Whether `data` is exactly one messagepack value, of any kind. Nothing is built from it."""
    unpacker: Any = msgpack.Unpacker(max_buffer_size=len(data) or 1)
    try:
        unpacker.feed(data)
        unpacker.skip()
    except Exception:
        return False
    return bool(unpacker.tell() == len(data))


_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}


def list_head(data: bytes, at: int = 0) -> tuple[int, int]:
    """(number of elements, position of the first) of the list at a position; `SerializationError` when there is
    none."""
    first = data[at] if len(data) > at else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F, at + 1
    width = {0xDC: 2, 0xDD: 4}.get(first)
    if width is None or len(data) < at + 1 + width:
        raise SerializationError("it is no list")
    return int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width


def text(data: bytes, at: int) -> tuple[bytes, int]:
    """(the text or bytes at a position, the position after it); `SerializationError` when there is none."""
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
    """As `text`, but for bytes only."""
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
