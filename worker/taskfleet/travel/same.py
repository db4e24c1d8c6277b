"""Compares two values for being the same: equal, and of the same types, part by part."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel


def same(one: Any, other: Any) -> bool:
    """Equality that distinguishes 1, 1.0 and True, and 0.0 and -0.0, and for which nan equals nan."""
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
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return all(same(getattr(one, name, None), getattr(other, name, None)) for name in names)
    if issubclass(kind, Mapping):
        if len(one) != len(other) or getattr(one, "default_factory", None) is not getattr(
            other, "default_factory", None
        ):
            return False
        return _same_members(one, other) and all(
            key not in other or same(each, other[key]) for key, each in one.items()
        )
    if issubclass(kind, (list, tuple, deque)):
        if getattr(one, "maxlen", None) != getattr(other, "maxlen", None):
            return False
        return len(one) == len(other) and all(map(same, one, other))
    if issubclass(kind, (set, frozenset)):
        return len(one) == len(other) and _same_members(one, other)
    if one.__class__.__eq__ is object.__eq__:
        return False
    return bool(one == other)


def _same_members(one: Iterable[Any], other: Iterable[Any]) -> bool:
    members = {each: each for each in other}
    return all(same(each, members[each]) if each in members else _has_same(each, other) for each in one)


def _has_same(one: Any, others: Iterable[Any]) -> bool:
    """Membership for a value with nan, which a set does not find."""
    return any(same(one, other) for other in others)
