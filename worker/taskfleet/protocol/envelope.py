"""The envelope: the form in which a task is stored in Redis, a versioned messagepack list.

    [1, task name, args, kwargs] or, for a call with settings, [1, name, args, kwargs, {key: value}]

The keys of the map are defined in protocol/call_settings.py. Redis puts eight bytes before the list: the time when the
task was accepted, in milliseconds, as a big-endian double.

Version 2 is a sealed envelope (protocol/sealing.py). Version 17 is version 1 with a value in it (`TypedForm`) that
programs which know only versions 1 and 2 cannot read. docs/reference/envelope.md has the rules for further versions.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgpack

from taskfleet.errors import NewerVersionError, SerializationError
from taskfleet.protocol import call_settings, unpacking

_stamp = struct.Struct(">d").unpack_from

VERSION = 1
SEALED = 2  # also the newest layout that this version knows
TYPED = 16 + VERSION  # version 1 with a typed form in it, unreadable for programs that know only versions 1 and 2
STAMP_BYTES = 8
_LATEST_MS = 253_402_300_799_000.0  # the end of the year 9999, the last that datetime can hold


class PydanticJson(bytes):
    """The JSON text of a value that messagepack has no type for."""

    __slots__ = ()


class TypedForm(bytes):
    """A value that names the type of each of its parts: travel/typed.py."""

    __slots__ = ()


class CarriedForm(bytes):
    """The results of several tasks for a task that takes them, each in its form: travel/carried.py."""

    __slots__ = ()


# Messagepack extensions by their codes. Carried results exist only inside a worker.
FORMS: dict[int, type[bytes]] = {1: PydanticJson, 2: TypedForm, 3: CarriedForm}
_CODES: dict[type, int] = {form: code for code, form in FORMS.items()}


@dataclass(slots=True)  # not frozen: that would cost a call for each field of every task
class Envelope:
    """A decoded task. `enqueued_ms` is a time of the clock of Redis."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    settings: dict[str, Any]
    enqueued_ms: float


def _default(value: object) -> object:
    if isinstance(value, bytes) and (code := _CODES.get(type(value))) is not None:
        return msgpack.ExtType(code, bytes(value))
    what = "a whole number of more than 64 bits" if type(value) is int else f"type {type(value).__name__}"
    raise TypeError(f"{what} cannot be encoded")


def _extension(code: int, data: bytes) -> object:
    form = FORMS.get(code)
    return form(data) if form is not None else msgpack.ExtType(code, data)


class _Packers(threading.local):
    """One packer for each thread: making a packer costs more than packing a small task."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(default=_default, strict_types=True).pack


_packers = _Packers()


def pack(value: object) -> bytes:
    """Messagepack of `value`; raises `TypeError` or `ValueError` as msgpack does."""
    # strict_types keeps subclasses (PydanticJson, enums, named tuples) from being packed as their base type.
    packed: bytes = _packers.pack(value)
    return packed


def unpack(data: bytes, limit: int | None = None, budget: unpacking.Budget | None = None) -> Any:
    """The value in `data`. A `limit` or a `budget` bounds what is unpacked (protocol/unpacking.py).

    Errors: `SerializationError`.
    """
    return unpacking.within(data, len(data) if limit is None else limit, _extension, budget)


def encode(
    name: str, args: list[Any], kwargs: dict[str, Any], settings: dict[str, Any], version: int = VERSION
) -> bytes:
    parts: list[Any] = [version, name, args, kwargs]
    if settings:
        parts.append(settings)
    packed: bytes = _packers.pack(parts)  # as `pack` does
    return packed


def around_arguments(name: str, settings: dict[str, Any] | None) -> tuple[bytes, bytes]:
    """What is before and behind the packed list of arguments in the envelope of a call without named arguments."""
    whole = encode(name, [], {}, settings or {})
    behind = pack({}) + (pack(settings) if settings else b"")
    return whole[: -len(behind) - 1], behind


def packer() -> Callable[[object], bytes]:
    """`pack` for many values in this thread, without a look for the packer of the thread each time."""
    return cast("Callable[[object], bytes]", _packers.pack)


def expiring(data: bytes, now_ms: int, expires_ms: int | None, limit: int | None = None) -> bytes:
    """The envelope with its expiry counted from `now_ms`; unchanged without an expiry.

    `limit` as for `unpack`. Errors: `SerializationError`.
    """
    if expires_ms is None:
        return data
    parts = unpack(data, limit)
    try:
        settings = parts[4] if len(parts) > 4 else {}
        return encode(
            parts[1], parts[2], parts[3], {**settings, call_settings.EXPIRES_AT: (now_ms + expires_ms) / 1000}, parts[0]
        )
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise SerializationError(f"it is no task envelope: {error}") from None


def name_of(blob: bytes) -> tuple[str, float]:
    """(task name, time of the enqueue) of a stamped blob, without unpacking its arguments.

    Errors: `SerializationError` when it is no plain envelope of a known version.
    """
    data = blob[STAMP_BYTES:]
    if version_of(data) not in (VERSION, TYPED):
        raise SerializationError("it is no task envelope")
    (enqueued_ms,) = _stamp(blob)
    _, at = unpacking.list_head(data)
    name, _ = unpacking.text(data, at + 1)
    return name.decode("utf-8", "replace"), enqueued_ms


class SealedError(SerializationError):
    """The envelope is sealed and has to be opened first."""


def decode(blob: bytes, limit: int | None = None) -> Envelope:
    """The task in `blob`; raises `SerializationError` for anything else.

    `NewerVersionError` for a version that came after this program, `SealedError` for a sealed envelope. A payload of
    more than `limit` bytes is unpacked within bounds; without `limit`, the caller has checked the length.
    """
    try:
        (enqueued_ms,) = _stamp(blob)
        if limit is None:
            parts = msgpack.unpackb(blob[8:], ext_hook=_extension, strict_map_key=False)
        else:
            parts = unpacking.within(blob[8:], limit, _extension)
        if len(parts) == 4:
            version, name, args, kwargs = parts
            settings: Any = {}
        else:
            version, name, args, kwargs, settings = parts[:5]
    except Exception as error:
        raise _refusal(blob, f"the payload cannot be decoded: {str(error) or type(error).__name__}") from None
    # Exact types: unpacked messagepack has no subclasses.
    if not (
        type(version) is int
        and version in (VERSION, TYPED)
        and type(name) is str
        and type(args) is list
        and type(kwargs) is dict
        and type(settings) is dict
        and 0.0 <= enqueued_ms <= _LATEST_MS
    ):
        raise _refusal(blob, "the payload is not a task envelope")
    if settings:
        call_settings.check(settings)
    return Envelope(name, args, kwargs, settings, enqueued_ms)


def version_of(data: bytes) -> int | None:
    """The version of an envelope or record (without its stamp): 0 to 127, or `None` when it names none.

    All versions have this in common: one messagepack list whose first element is the version.
    """
    first = data[0] if data else 0
    if 0x91 <= first <= 0x9F:
        start = 1
    elif first in (0xDC, 0xDD):
        start = 3 if first == 0xDC else 5
    else:
        return None
    return data[start] if len(data) > start and data[start] <= 0x7F else None


def newer_version(data: bytes, what: str) -> NewerVersionError | None:
    """The error for an envelope or record of a newer version; `None` for a known version and for damaged data."""
    version = version_of(data)
    if version is None or version <= SEALED or version == TYPED:
        return None
    if not unpacking.is_whole(data):
        return None
    return NewerVersionError(
        f"{what} has envelope version {version}, and this program reads up to {SEALED}: upgrade taskfleet here",
        version=version,
    )


def _refusal(blob: bytes, problem: str) -> SerializationError:
    data = blob[STAMP_BYTES:]
    if version_of(data) == SEALED:
        return SealedError("the payload is sealed")
    return newer_version(data, "the payload") or SerializationError(problem)
