"""What of a task is stored in Redis: a versioned messagepack list.

    [1, task name, args, kwargs] or, when the call sets something for itself, [1, name, args, kwargs, {key: value}]

Keys of the map: `r` max_retries, `t` timeout (s), `x` expires at (Unix s), `k` result_ttl (s), `c` created at (Unix s).
Redis puts eight bytes before it: when the task was accepted, milliseconds as a big-endian double.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet.errors import SerializationError

_stamp = struct.Struct(">d").unpack_from

VERSION = 1
JSON_EXTENSION = 1  # a value that pydantic dumped: its JSON text


class PydanticJson(bytes):
    """The JSON text of a value that messagepack has no type for."""

    __slots__ = ()


@dataclass(slots=True)  # not frozen: that would cost a call per field, for every task
class Envelope:
    """A decoded task. `enqueued_ms` is by the clock of Redis."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    settings: dict[str, Any]
    enqueued_ms: float


def _default(value: object) -> object:
    if isinstance(value, PydanticJson):
        return msgpack.ExtType(JSON_EXTENSION, bytes(value))
    raise TypeError(f"type {type(value).__name__} cannot be encoded")


def _extension(code: int, data: bytes) -> object:
    return PydanticJson(data) if code == JSON_EXTENSION else msgpack.ExtType(code, data)


class _Packers(threading.local):
    """One packer a thread: making one costs more than packing a small task."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(default=_default, strict_types=True).pack


_packers = _Packers()


def pack(value: object) -> bytes:
    """Messagepack of `value`; raises `TypeError` or `ValueError` as msgpack does."""
    # strict_types keeps subclasses (PydanticJson, enums, named tuples) from passing as their base type.
    return cast("bytes", _packers.pack(value))


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_extension, strict_map_key=False)


def encode(name: str, args: list[Any], kwargs: dict[str, Any], settings: dict[str, Any]) -> bytes:
    parts: list[Any] = [VERSION, name, args, kwargs]
    if settings:
        parts.append(settings)
    return pack(parts)


def expiring(data: bytes, now_ms: int, expires_ms: int | None) -> bytes:
    """The envelope with its expiry counted from `now_ms`; unchanged when it has none."""
    if expires_ms is None:
        return data
    parts = unpack(data)
    settings = parts[4] if len(parts) > 4 else {}
    return encode(parts[1], parts[2], parts[3], {**settings, "x": (now_ms + expires_ms) / 1000})


def decode(blob: bytes) -> Envelope:
    """The task in `blob`; raises `SerializationError` for anything that is not one."""
    try:
        (enqueued_ms,) = _stamp(blob)
        parts = msgpack.unpackb(blob[8:], ext_hook=_extension, strict_map_key=False)
        if len(parts) == 4:
            version, name, args, kwargs = parts
            settings: Any = {}
        else:
            version, name, args, kwargs, settings = parts[:5]
    except Exception as error:
        raise SerializationError(f"the payload cannot be decoded: {error}") from None
    # Exact types: what messagepack unpacks has no others.
    if not (
        type(version) is int
        and type(name) is str
        and type(args) is list
        and type(kwargs) is dict
        and type(settings) is dict
    ):
        raise SerializationError("the payload is not a task envelope")
    if version != VERSION:
        raise SerializationError(f"the payload has envelope version {version}; this worker reads version {VERSION}")
    return Envelope(name, args, kwargs, settings, enqueued_ms)
