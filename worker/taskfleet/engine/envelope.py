"""What of a task is stored in Redis: a versioned messagepack list.

    [1, task name, args, kwargs] or, when the call sets something for itself, [1, name, args, kwargs, {key: value}]

Keys of the map: `r` max_retries, `t` timeout (s), `x` expires at (Unix s), `k` result_ttl (s), `c` created at (Unix s).
Redis puts eight bytes before it: when the task was accepted, milliseconds as a big-endian double.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet.errors import SerializationError

VERSION = 1
JSON_EXTENSION = 1  # a value that pydantic dumped: its JSON text


class PydanticJson(bytes):
    """The JSON text of a value that messagepack has no type for."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
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


def pack(value: object) -> bytes:
    """Messagepack of `value`; raises `TypeError` or `ValueError` as msgpack does."""
    # strict_types keeps subclasses (PydanticJson, enums, named tuples) from passing as their base type.
    return cast("bytes", msgpack.packb(value, default=_default, strict_types=True))


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_extension, strict_map_key=False)


def encode(name: str, args: list[Any], kwargs: dict[str, Any], settings: dict[str, Any]) -> bytes:
    parts: list[Any] = [VERSION, name, args, kwargs]
    if settings:
        parts.append(settings)
    return pack(parts)


def decode(blob: bytes) -> Envelope:
    """The task in `blob`; raises `SerializationError` for anything that is not one."""
    try:
        (enqueued_ms,) = struct.unpack_from(">d", blob)
        parts = msgpack.unpackb(memoryview(blob)[8:], ext_hook=_extension, strict_map_key=False)
        version, name, args, kwargs = parts[:4]
        settings = parts[4] if len(parts) > 4 else {}
    except Exception as error:
        raise SerializationError(f"the payload cannot be decoded: {error}") from None
    if not (
        type(version) is int
        and isinstance(name, str)
        and isinstance(args, list)
        and isinstance(kwargs, dict)
        and isinstance(settings, dict)
    ):
        raise SerializationError("the payload is not a task envelope")
    if version != VERSION:
        raise SerializationError(f"the payload has envelope version {version}; this worker reads version {VERSION}")
    return Envelope(name, args, kwargs, settings, enqueued_ms)
