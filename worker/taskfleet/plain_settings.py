"""What a setting accepts, and the reading of its plain values: of its type, or the text of a number or a switch."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

_WHOLE = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_SWITCHES = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


class NotPlainError(Exception):
    """Only pydantic can tell whether a value is one of its setting."""


@dataclass(frozen=True, slots=True)
class SettingField:
    """What a setting accepts.

    `limits` are those of pydantic's `Field`: `gt`, `ge`, `lt`, `le` and `pattern`, which covers the whole text.
    `before` changes a value before it is read, and `after` afterwards; both raise `ValueError`.
    """

    default: Any
    annotation: Any = None
    repr: bool = True
    strip: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    before: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None

    def read(self, value: Any) -> Any:
        """A plain value. Errors: `NotPlainError`."""
        try:
            if self.before is not None:
                value = self.before(value)
            value = _read(self.annotation, value)
            if self.strip:
                value = value.strip()
            if not all(_LIMITS[name](value, limit) for name, limit in self.limits.items()):
                raise NotPlainError
            return value if self.after is None else self.after(value)
        except ValueError:
            raise NotPlainError from None


def setting(
    *,
    default: Any,
    secret: bool = False,
    strip: bool = False,
    before: Callable[[Any], Any] | None = None,
    after: Callable[[Any], Any] | None = None,
    **limits: Any,
) -> Any:
    """A setting with limits. `repr` leaves a `secret` out."""
    return SettingField(default, repr=not secret, strip=strip, limits=limits, before=before, after=after)


def is_section(annotation: Any) -> bool:
    """Whether the values of a setting are sections."""
    return isinstance(annotation, type) and hasattr(annotation, "of_plain")


_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, limit: value > limit,
    "ge": lambda value, limit: value >= limit,
    "lt": lambda value, limit: value < limit,
    "le": lambda value, limit: value <= limit,
    "pattern": lambda value, limit: re.fullmatch(limit, value) is not None,
}


def _read(annotation: Any, value: Any) -> Any:
    if (read := _READERS.get(annotation)) is not None:
        return read(value)
    if is_section(annotation):
        if type(value) is dict:
            return annotation.of_plain(value)  # without pydantic, since an error names both sections
        return _of_type(annotation, value)
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        if type(value) is str and value in parts:
            return value
        raise NotPlainError
    return None if value is None else _read(parts[0], value)  # the other part is None


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise NotPlainError
    return value


def _whole(value: Any) -> int:
    return int(value) if type(value) is str and _WHOLE.fullmatch(value) else cast("int", _of_type(int, value))


def _number(value: Any) -> float:
    if type(value) is int or (type(value) is str and _NUMBER.fullmatch(value)):
        value = float(value)
    if not math.isfinite(_of_type(float, value)):
        raise NotPlainError
    return cast("float", value)


def _switch(value: Any) -> bool:
    return cast("bool", _of_type(bool, _SWITCHES.get(value.lower()) if type(value) is str else value))


def _path(value: Any) -> Path:
    if type(value) is str and value.strip():
        return Path(value)
    return cast("Path", _of_type(type(Path()), value))


def _texts(value: Any) -> tuple[str, ...]:
    if type(value) not in (list, tuple):
        raise NotPlainError
    return tuple(_of_type(str, each) for each in value)


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: lambda value: _of_type(str, value),
    int: _whole,
    float: _number,
    bool: _switch,
    Path: _path,
    tuple[str, ...]: _texts,
}
