"""Native values, which messagepack returns unchanged, types included."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgpack

from taskfleet.protocol.envelope import FORMS

PLAIN = (str, int, float, bool, bytes, type(None))
INTEGERS = range(-(2**63), 2**64)
_NATIVE = frozenset((*PLAIN, list, dict))


def scalars_of(annotation: Any) -> frozenset[Any]:
    """The types of a union of plain types only, whose values need no encoding."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = typing.get_args(annotation)
        if all(part in PLAIN for part in parts):
            return frozenset(parts)
    return frozenset()


def is_native(value: Any) -> bool:
    """Whether messagepack returns this value unchanged, types included."""
    kind = type(value)
    if kind is int:
        return value in INTEGERS
    if kind is list:
        return all(map(is_native, value))
    if kind is dict:
        return all(type(key) in PLAIN and is_native(key) and is_native(each) for key, each in value.items())
    return kind in _NATIVE


def stranger(value: Any) -> str:
    """The type of a part that messagepack would pack as another type.

    Messagepack itself reports types that it refuses.
    """
    kind = type(value)
    if kind is list:
        return next((found for each in value if (found := stranger(each))), "")
    if kind is dict:
        return next((found for each in value.values() if (found := stranger(each))), "")
    if kind in (bytearray, memoryview):
        return str(kind.__name__)
    return "ExtType" if kind is msgpack.ExtType and value.code in FORMS else ""
