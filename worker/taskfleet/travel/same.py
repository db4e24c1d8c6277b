"""Whether two values are the same: equal, and of the same types, part by part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from 1.0 and from True, -0.0 from 0.0, and holds nan for nan."""
    if one is other:
        return True
    kind = type(one)
    if type(other) is not kind:
        return False
    if kind is float:
        if one == other:
            return math.copysign(1.0, one) == math.copysign(1.0, other)
        return bool(one != one and other != other)
    if issubclass(kind, BaseModel):
        return all(
            same(getattr(one, part), getattr(other, part))
            for part in ("__dict__", "__pydantic_extra__", "__pydantic_private__")
        )
    if issubclass(kind, Mapping):
        if len(one) != len(other):
            return False
        keys = {key: key for key in other}
        return all(key in keys and same(key, keys[key]) and same(each, other[key]) for key, each in one.items())
    if issubclass(kind, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if issubclass(kind, (set, frozenset)):
        keys = {key: key for key in other}
        return len(one) == len(other) and all(key in keys and same(key, keys[key]) for key in one)
    if one.__class__.__eq__ is object.__eq__:
        return False
    return bool(one == other)
