"""Annotations of any shape, and values of them, for property tests of arguments and results."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import itertools
import pathlib
import typing
import uuid
import zoneinfo
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import pydantic
import typing_extensions
from hypothesis import strategies as st


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Odd(enum.Enum):
    PAIR = (1, 2)
    NOTHING = None
    TEXT = "1"
    NUMBER = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Shape:
    """An annotation, and a strategy for values that are of it."""

    annotation: Any
    values: st.SearchStrategy[Any]
    hashable: bool = True


_ZONES = st.sampled_from(
    [None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=-30)), zoneinfo.ZoneInfo("Europe/Paris")]
)
_text = st.text(max_size=6)
LEAVES = [
    Shape(str, _text),
    Shape(int, st.integers(-(2**70), 2**70)),
    Shape(float, st.floats(allow_nan=True)),
    Shape(bool, st.booleans()),
    Shape(bytes, st.binary(max_size=6)),
    Shape(None, st.none()),
    Shape(dt.date, st.dates()),
    Shape(dt.datetime, st.datetimes(timezones=_ZONES, allow_imaginary=False)),
    Shape(dt.time, st.times(timezones=st.sampled_from([None, dt.UTC, zoneinfo.ZoneInfo("Europe/Paris")]))),
    Shape(dt.timedelta, st.timedeltas()),
    Shape(Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    Shape(uuid.UUID, st.uuids()),
    Shape(complex, st.complex_numbers(allow_nan=False)),
    Shape(Fraction, st.fractions()),
    Shape(pathlib.Path, st.sampled_from([pathlib.Path("/a/b"), pathlib.Path("c")])),
    Shape(ipaddress.IPv4Address, st.ip_addresses(v=4)),
    Shape(Color, st.sampled_from(Color)),
    Shape(Size, st.sampled_from(Size)),
    Shape(Odd, st.sampled_from(Odd)),
    Shape(Rights, st.sampled_from([Rights.READ, Rights.WRITE, Rights.READ | Rights.WRITE, Rights(0)])),
    Shape(Literal["a", 1, b"x"], st.sampled_from(["a", 1, b"x"])),
    Shape(pydantic.SecretStr, _text.map(pydantic.SecretStr)),
    Shape(pydantic.SecretBytes, st.binary(max_size=4).map(pydantic.SecretBytes)),
    Shape(Annotated[str, pydantic.AfterValidator(lambda text: text)], _text),
    Shape(Annotated[int, pydantic.Field(ge=0)], st.integers(0, 100)),
    Shape(
        Any,
        st.recursive(
            st.none() | st.integers() | _text | st.dates(),
            lambda inner: st.lists(inner, max_size=2) | st.tuples(inner),
            max_leaves=3,
        ),
        False,
    ),
    Shape(dict, st.dictionaries(st.integers() | _text | st.none(), st.integers(), max_size=2), False),
    Shape(list, st.lists(st.integers() | st.tuples(st.booleans()), max_size=2), False),
]

_names = itertools.count()


def kinds() -> st.SearchStrategy[Shape]:
    """Any annotation."""
    return st.recursive(st.sampled_from(LEAVES), _composed, max_leaves=4)


def _composed(inner: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
    hashable = inner.filter(lambda kind: kind.hashable)
    return st.one_of(
        inner.map(lambda each: Shape(list[each.annotation], st.lists(each.values, max_size=3), False)),
        inner.map(lambda each: Shape(deque[each.annotation], st.lists(each.values, max_size=3).map(deque), False)),
        inner.map(lambda each: Shape(Sequence[each.annotation], st.lists(each.values, max_size=3).map(tuple), False)),
        hashable.map(lambda each: Shape(set[each.annotation], st.sets(each.values, max_size=3), False)),
        hashable.map(lambda each: Shape(frozenset[each.annotation], st.frozensets(each.values, max_size=3))),
        inner.map(
            lambda each: Shape(tuple[each.annotation, ...], st.lists(each.values, max_size=3).map(tuple), each.hashable)
        ),
        st.tuples(inner, inner).map(
            lambda pair: Shape(
                tuple[pair[0].annotation, pair[1].annotation],
                st.tuples(pair[0].values, pair[1].values),
                pair[0].hashable and pair[1].hashable,
            )
        ),
        st.tuples(hashable, inner).map(
            lambda pair: Shape(
                dict[pair[0].annotation, pair[1].annotation],
                st.dictionaries(pair[0].values, pair[1].values, max_size=3),
                False,
            )
        ),
        st.tuples(hashable, inner).map(
            lambda pair: Shape(
                Mapping[pair[0].annotation, pair[1].annotation],
                st.dictionaries(pair[0].values, pair[1].values, max_size=3),
                False,
            )
        ),
        inner.map(
            lambda each: Shape(
                typing.Optional[each.annotation],  # noqa: UP045 - not all have an operator
                st.none() | each.values,
                each.hashable,
            )
        ),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: Shape(
                typing.Union[tuple(part.annotation for part in parts)],  # noqa: UP007
                st.one_of(*(part.values for part in parts)),
                all(part.hashable for part in parts),
            )
        ),
        st.tuples(st.lists(inner, min_size=1, max_size=3), st.integers(0, 2**12 - 1)).map(lambda given: model(*given)),
        st.lists(inner, min_size=1, max_size=3).map(data_class),
        st.lists(inner, min_size=1, max_size=3).map(named_tuple),
        st.lists(inner, min_size=1, max_size=3).map(typed_dict),
    )


def _built(make: Callable[..., Any], fields: Mapping[str, Shape]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({name: kind.values for name, kind in fields.items()}).map(lambda given: make(**given))


def model(parts: Sequence[Shape], choices: int) -> Shape:
    """A model whose fields have aliases, are left out of dumps, or have validators, as `choices` has bits."""
    fields = {f"f{at}": part for at, part in enumerate(parts)}
    definitions: dict[str, Any] = {}
    for at, (name, part) in enumerate(fields.items()):
        bits = choices >> (4 * at)
        about: dict[str, Any] = {}
        if bits & 1:
            about["alias"] = f"{name}Alias"
        if bits & 2:
            about["exclude"] = True
        if bits & 4:
            about["validation_alias"] = pydantic.AliasChoices(f"{name}In", f"{name}Also")
        annotation = (
            Annotated[part.annotation, pydantic.AfterValidator(lambda value: value)] if bits & 8 else part.annotation
        )
        definitions[name] = (annotation, pydantic.Field(**about))
    cls = pydantic.create_model(
        f"Model{next(_names)}",
        __config__=pydantic.ConfigDict(populate_by_name=True, extra="forbid" if choices & 1 else "ignore"),
        **definitions,
    )
    return Shape(cls, _built(cls, fields), False)


def data_class(parts: Sequence[Shape]) -> Shape:
    fields = {f"f{at}": part for at, part in enumerate(parts)}
    cls = dataclasses.make_dataclass(f"Data{next(_names)}", [(name, part.annotation) for name, part in fields.items()])
    return Shape(cls, _built(cls, fields), False)


def named_tuple(parts: Sequence[Shape]) -> Shape:
    fields = {f"f{at}": part for at, part in enumerate(parts)}
    cls: Any = typing.NamedTuple(f"Tuple{next(_names)}", [(name, part.annotation) for name, part in fields.items()])
    return Shape(cls, _built(cls, fields), all(part.hashable for part in parts))


def typed_dict(parts: Sequence[Shape]) -> Shape:
    fields = {f"f{at}": part for at, part in enumerate(parts)}
    cls: Any = typing_extensions.TypedDict(
        f"Dict{next(_names)}", {name: part.annotation for name, part in fields.items()}
    )  # type: ignore[misc]
    return Shape(cls, _built(dict, fields), False)
