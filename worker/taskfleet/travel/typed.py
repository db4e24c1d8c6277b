"""The typed form of a value: messagepack in which each part names its type if messagepack has no such type.

        nil, booleans, integers of 64 bits, floats, text, bytes   themselves
        a map                                                     a dict whose keys are all text
        [tag, …]                                                  any other value, lists included

Loading executes no code of a sender: a tag names a type of this module, or a class that the annotation names, and of
such a class only `__new__` runs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import pydantic
from pydantic import BaseModel

from taskfleet.travel.classes import Classes
from taskfleet.travel.problems import UnfitError

_UNCHANGED = frozenset({type(None), bool, float, str, bytes})
_LARGEST, _SMALLEST = 2**64, -(2**63)


def encode(value: Any, classes: Classes) -> Any:
    """The value for messagepack. Errors: `UnfitError` names the part that cannot be sent."""
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is int:
        return value if _SMALLEST <= value < _LARGEST else ["i", hex(value)]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: encode(each, classes) for key, each in value.items()}
        return ["m", *_pairs(value, classes)]
    if (tag := _ARRAYS.get(kind)) is not None:
        return [tag, *[encode(each, classes) for each in value]]
    if (write := _WRITERS.get(kind)) is not None:
        return write(value, classes)
    if kind in classes.tags:
        return _object(value, classes)
    raise UnfitError(_unknown(value, classes))


def _unknown(value: Any, classes: Classes) -> str:
    kind = type(value)
    parent = next((cls for cls in classes.tags if isinstance(value, cls)), None)
    if parent is not None:
        return (
            f"a {kind.__qualname__} where {parent.__qualname__} is annotated: what it adds would be lost; annotate "
            f"{kind.__qualname__}, or a union of both"
        )
    return f"a {kind.__qualname__} cannot travel"


def _pairs(value: Mapping[Any, Any], classes: Classes) -> list[Any]:
    return [encode(part, classes) for pair in value.items() for part in pair]


_ARRAYS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f"}
_FACTORIES: dict[str, type] = {each.__name__: each for each in (int, float, str, bytes, bool, list, dict, set, tuple)}


def _default_dict(value: defaultdict[Any, Any], classes: Classes) -> list[Any]:
    factory = value.default_factory
    if factory is not None and _FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise UnfitError(f"a defaultdict of {factory!r} cannot travel: only one of a built-in type can")
    return ["d", factory.__name__ if factory is not None else None, *_pairs(value, classes)]


def _zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is zoneinfo.ZoneInfo:
        if not zone.key:  # it was read from a file
            raise UnfitError("a time zone without a name cannot travel")
        return zone.key
    # Any class of zone with a fixed offset.
    offset = zone.utcoffset(None)
    if offset is None:
        raise UnfitError(f"a time in zone {zone!r} cannot travel: use zoneinfo.ZoneInfo or datetime.timezone")
    return [offset.days, offset.seconds, offset.microseconds]


def _pattern(value: re.Pattern[Any], classes: Classes) -> list[Any]:
    return ["P", value.pattern, value.flags]


_PATHS: dict[str, type] = {
    each.__name__: each
    for each in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}
_ADDRESSES: dict[str, Callable[[str], Any]] = {
    each.__name__: each
    for each in (
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
        ipaddress.IPv4Network,
        ipaddress.IPv6Network,
        ipaddress.IPv4Interface,
        ipaddress.IPv6Interface,
    )
}
_URLS: dict[str, Callable[[str], Any]] = {
    name: getattr(pydantic, name)
    for name in pydantic.__all__
    if (name.endswith(("Url", "Dsn"))) and isinstance(getattr(pydantic, name), type)
}


def _text_of(tag: str) -> Callable[[Any, Classes], list[Any]]:
    return lambda value, classes: [tag, type(value).__name__, str(value)]


_WRITERS: dict[Any, Callable[[Any, Classes], list[Any]]] = {
    OrderedDict: lambda value, classes: ["o", *_pairs(value, classes)],
    Counter: lambda value, classes: ["c", *_pairs(value, classes)],
    defaultdict: _default_dict,
    deque: lambda value, classes: ["collections.deque", value.maxlen, *[encode(each, classes) for each in value]],
    bytearray: lambda value, classes: ["b", bytes(value)],
    range: lambda value, classes: ["r", *[encode(each, classes) for each in (value.start, value.stop, value.step)]],
    complex: lambda value, classes: ["j", value.real, value.imag],
    fractions.Fraction: lambda value, classes: [
        "/",
        encode(value.numerator, classes),
        encode(value.denominator, classes),
    ],
    decimal.Decimal: lambda value, classes: ["D", str(value)],
    dt.date: lambda value, classes: ["a", value.isoformat()],
    dt.datetime: lambda value, classes: ["n", value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)],
    dt.time: lambda value, classes: ["h", value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)],
    dt.timedelta: lambda value, classes: ["e", value.days, value.seconds, value.microseconds],
    dt.timezone: lambda value, classes: ["z", _zone(value)],
    zoneinfo.ZoneInfo: lambda value, classes: ["z", _zone(value)],
    uuid.UUID: lambda value, classes: ["u", value.bytes],
    re.Pattern: _pattern,
    pydantic.SecretStr: lambda value, classes: ["*", value.get_secret_value()],
    pydantic.SecretBytes: lambda value, classes: ["*", value.get_secret_value()],
    pydantic.Secret: lambda value, classes: ["**", encode(value.get_secret_value(), classes)],
    pydantic.ByteSize: lambda value, classes: ["y", int(value)],
    type(...): lambda value, classes: ["..."],
    **dict.fromkeys(_PATHS.values(), _text_of("p")),
    **dict.fromkeys(_ADDRESSES.values(), _text_of("@")),
    **dict.fromkeys(_URLS.values(), _text_of("U")),
}
TYPES: tuple[type, ...] = (*_UNCHANGED, int, dict, *_ARRAYS, *_WRITERS)


# Writing: objects of the classes that the annotation names.


def _object(value: Any, classes: Classes) -> list[Any]:
    kind = type(value)
    tag = classes.tags[kind]
    if isinstance(value, enum.Flag):
        return ["E", tag, encode(value.value, classes), None]
    if isinstance(value, enum.Enum):
        try:
            raw = encode(value.value, classes)
        except UnfitError:
            raw = None
        return ["E", tag, value.name, raw]
    if isinstance(value, BaseModel):
        return _model(value, tag, classes)
    if dataclasses.is_dataclass(value):
        return ["A", tag, _attributes(value, classes)]
    assert isinstance(value, tuple)
    return ["N", tag, *[encode(each, classes) for each in value]]


def _model(value: BaseModel, tag: str, classes: Classes) -> list[Any]:
    kind, state = type(value), value.__dict__
    fields = {name: _part(name, state[name], classes) for name in kind.__pydantic_fields__ if name in state}
    given = value.__pydantic_fields_set__
    extra = value.__pydantic_extra__
    private: dict[str, Any] = {}
    for name, each in (value.__pydantic_private__ or {}).items():
        try:
            private[name] = encode(each, classes)
        except UnfitError:
            # A lock, a connection, or the like: the class makes a new one, if it can.
            attribute = kind.__private_attributes__.get(name)
            if attribute is None or (attribute.default_factory is None and attribute.get_default() is not each):
                raise
    return [
        "M",
        tag,
        fields,
        None if len(given) == len(fields) else sorted(given),
        None if extra is None else {name: _part(name, each, classes) for name, each in extra.items()},
        private,
    ]


def _attributes(value: Any, classes: Classes) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    attributes = {name: _part(name, getattr(value, name), classes) for name in names if hasattr(value, name)}
    for name, each in getattr(value, "__dict__", {}).items():
        if name in attributes:
            continue
        try:
            attributes[name] = encode(each, classes)
        except UnfitError:
            if not isinstance(getattr(type(value), name, None), functools.cached_property):
                raise
    return attributes


def _part(name: str, value: Any, classes: Classes) -> Any:
    try:
        return encode(value, classes)
    except UnfitError as error:
        raise UnfitError(f"{name}: {error}") from None


# Reading.


def decode(form: Any, classes: Classes | None) -> Any:
    """The value of a typed form.

    Without `classes` an object becomes data: a dict of its fields, an enum member its value, a named tuple a tuple.
    Errors: `UnfitError` for an unknown class; any error for data that is no typed form.
    """
    kind = type(form)
    if kind is list:
        return _READERS[form[0]](form, classes)
    if kind is dict:
        return {key: decode(each, classes) for key, each in form.items()}
    return form


def _items(form: list[Any], classes: Classes | None, start: int = 1) -> list[Any]:
    return [decode(each, classes) for each in form[start:]]


def _entries(form: list[Any], classes: Classes | None, start: int = 1) -> list[tuple[Any, Any]]:
    parts = iter(_items(form, classes, start))
    return list(zip(parts, parts, strict=True))


def _zone_of(form: Any) -> dt.tzinfo | None:
    if form is None or type(form) is str:
        return None if form is None else zoneinfo.ZoneInfo(form)
    offset = dt.timedelta(form[0], form[1], form[2])
    return dt.timezone(offset) if offset else dt.UTC


def _class(form: list[Any], classes: Classes) -> type:
    cls = classes.by_tag.get(form[1])
    if cls is None:
        raise UnfitError(f"class {form[1]!r} is not part of the annotation here")
    return cls


def _enum_of(form: list[Any], classes: Classes | None) -> Any:
    if classes is None:
        return decode(form[2] if form[3] is None else form[3], None)
    cls = cast("type[enum.Enum]", _class(form, classes))
    return cls(decode(form[2], classes)) if issubclass(cls, enum.Flag) else cls[form[2]]


def _model_of(form: list[Any], classes: Classes | None) -> Any:
    _, _, fields, given, extra, private = form
    state = {name: decode(each, classes) for name, each in fields.items()}
    more = None if extra is None else {name: decode(each, classes) for name, each in extra.items()}
    if classes is None:
        return state.get("root") if list(state) == ["root"] else state | (more or {})
    cls = cast("type[BaseModel]", _class(form, classes))
    known = cls.__pydantic_fields__
    if not state.keys() <= known.keys():
        raise UnfitError(f"{cls.__qualname__} has no field {min(state.keys() - known.keys())!r} here")
    for name, field in known.items():
        if name not in state:
            if field.is_required():
                raise UnfitError(f"{cls.__qualname__} needs a field {name!r} here")
            state[name] = field.get_default(call_default_factory=True, validated_data=state)
    model = cls.__new__(cls)
    object.__setattr__(model, "__dict__", state)
    object.__setattr__(model, "__pydantic_fields_set__", set(fields if given is None else given))
    if cls.__pydantic_root_model__:
        return model  # a root model has neither extra nor private attributes
    object.__setattr__(model, "__pydantic_extra__", more)
    attributes = cls.__private_attributes__
    own: dict[str, Any] | None = None
    if attributes:
        own = {name: decode(each, classes) for name, each in private.items() if name in attributes}
        for name, attribute in attributes.items():
            if name not in own and (attribute.default_factory is not None or not _undefined(attribute.default)):
                own[name] = attribute.get_default()
    object.__setattr__(model, "__pydantic_private__", own)
    return model


def _undefined(value: object) -> bool:
    return type(value).__name__ == "PydanticUndefinedType"


def _dataclass_of(form: list[Any], classes: Classes | None) -> Any:
    state = {name: decode(each, classes) for name, each in form[2].items()}
    if classes is None:
        return state
    cls = _class(form, classes)
    value: Any = object.__new__(cls)
    for field in dataclasses.fields(cast("Any", cls)):
        if field.name not in state:
            if field.default is not dataclasses.MISSING:
                state[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                state[field.name] = field.default_factory()
            else:
                raise UnfitError(f"{cls.__qualname__} needs a field {field.name!r} here")
    for name, each in state.items():
        object.__setattr__(value, name, each)
    return value


def _named_tuple_of(form: list[Any], classes: Classes | None) -> Any:
    items = _items(form, classes, 2)
    return tuple(items) if classes is None else cast("Any", _class(form, classes))._make(items)


def _secret_of(form: list[Any], classes: Classes | None) -> Any:
    return pydantic.SecretStr(form[1]) if type(form[1]) is str else pydantic.SecretBytes(form[1])


def _named(table: Mapping[str, Callable[[str], Any]]) -> Callable[[list[Any], Classes | None], Any]:
    return lambda form, classes: table[form[1]](form[2])


_READERS: dict[str, Callable[[list[Any], Classes | None], Any]] = {
    "l": _items,
    "t": lambda form, classes: tuple(_items(form, classes)),
    "s": lambda form, classes: set(_items(form, classes)),
    "f": lambda form, classes: frozenset(_items(form, classes)),
    "m": lambda form, classes: dict(_entries(form, classes)),
    "o": lambda form, classes: OrderedDict(_entries(form, classes)),
    "c": lambda form, classes: Counter(dict(_entries(form, classes))),
    "d": lambda form, classes: defaultdict(
        None if form[1] is None else _FACTORIES[form[1]], _entries(form, classes, 2)
    ),
    # The longest tag: an empty deque takes 760 bytes of memory.
    "collections.deque": lambda form, classes: deque(_items(form, classes, 2), form[1]),
    "i": lambda form, classes: int(form[1], 16),
    "b": lambda form, classes: bytearray(form[1]),
    "r": lambda form, classes: range(*_items(form, classes)),
    "j": lambda form, classes: complex(form[1], form[2]),
    "/": lambda form, classes: fractions.Fraction(*_items(form, classes)),
    "D": lambda form, classes: decimal.Decimal(form[1]),
    "a": lambda form, classes: dt.date.fromisoformat(form[1]),
    "n": lambda form, classes: dt.datetime.fromisoformat(form[1]).replace(fold=form[2], tzinfo=_zone_of(form[3])),
    "h": lambda form, classes: dt.time.fromisoformat(form[1]).replace(fold=form[2], tzinfo=_zone_of(form[3])),
    "e": lambda form, classes: dt.timedelta(form[1], form[2], form[3]),
    "z": lambda form, classes: _zone_of(form[1]),
    "u": lambda form, classes: uuid.UUID(bytes=form[1]),
    "P": lambda form, classes: re.compile(form[1], form[2] & ~re.DEBUG.value),
    "p": _named(_PATHS),
    "@": _named(_ADDRESSES),
    "U": _named(_URLS),
    "*": _secret_of,
    "**": lambda form, classes: pydantic.Secret(decode(form[1], classes)),
    "y": lambda form, classes: pydantic.ByteSize(form[1]),
    "...": lambda form, classes: ...,
    "E": _enum_of,
    "M": _model_of,
    "A": _dataclass_of,
    "N": _named_tuple_of,
}
