"""The tables of docs/reference/types.md: every type on the page is tested, and arrives or is refused as it says."""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable as AnyCallable
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from collections.abc import Set as AnySet
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import SecretBytes, SecretStr

from taskfleet.errors import ConfigurationError
from taskfleet.protocol import envelope
from taskfleet.travel.same import same
from taskfleet.travel.value import Value

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "reference" / "types.md").read_text(encoding="utf-8")


class Plain(enum.Enum):
    A = (1, 2)


class Whole(enum.IntEnum):
    A = 1


class Text(enum.StrEnum):
    A = "a"


class Bits(enum.Flag):
    A = 1
    B = 2


# A name on the page, an annotation for it, and values that must arrive unchanged.
TRAVELS: dict[str, tuple[Any, list[Any]]] = {
    "str": (str, ["", "a\0ü"]),
    "int": (int, [0, -(2**63), 2**64 - 1]),
    "float": (float, [0.1, float("nan"), float("inf"), -0.0]),
    "bool": (bool, [True, False]),
    "bytes": (bytes, [b"\xff\0"]),
    "None": (None, [None]),
    "datetime": (
        dt.datetime,
        [dt.datetime.min, dt.datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("America/New_York"))],
    ),
    "date": (dt.date, [dt.date.min, dt.date.max]),
    "time": (dt.time, [dt.time(1, 2, 3, 4)]),
    "timedelta": (dt.timedelta, [dt.timedelta.min, dt.timedelta(microseconds=-1)]),
    "Decimal": (Decimal, [Decimal("1.10")]),
    "Fraction": (Fraction, [Fraction(1, 3)]),
    "complex": (complex, [1 + 2j]),
    "UUID": (uuid.UUID, [uuid.UUID(int=5)]),
    "range": (range, [range(1, 9, 2)]),
    "Enum": (Plain, [Plain.A]),
    "IntEnum": (Whole | int, [Whole.A, 1]),
    "StrEnum": (Text | str, [Text.A, "a"]),
    "Flag": (Bits, [Bits.A | Bits.B]),
    "Literal": (Literal["a", 1], ["a", 1]),
    "Path": (pathlib.Path, [pathlib.Path("/a")]),
    "re.Pattern": (re.Pattern[str], [re.compile("a", re.IGNORECASE)]),
    "ZoneInfo": (zoneinfo.ZoneInfo, [zoneinfo.ZoneInfo("Asia/Tokyo")]),
    "SecretStr": (SecretStr, [SecretStr("x")]),
    "SecretBytes": (SecretBytes, [SecretBytes(b"\xff")]),
    "Secret[…]": (pydantic.Secret[int], [pydantic.Secret[int](3)]),
    "list": (list[int | str], [[1, "1"]]),
    "tuple": (tuple[int, str], [(1, "a")]),
    "set": (set[dt.date], [{dt.date.min}]),
    "frozenset": (frozenset[int], [frozenset({1})]),
    "deque": (deque[int], [deque([1], maxlen=3)]),
    "OrderedDict": (OrderedDict[str, int], [OrderedDict(b=1, a=2)]),
    "defaultdict": (defaultdict[str, list[int]], [defaultdict(list, {"a": [1]})]),
    "Counter": (Counter[str], [Counter("aab")]),
    "bytearray": (bytearray, [bytearray(b"\xff")]),
    "dict": (dict, [{2025: 10}, {"a": [dt.date.min]}]),
    "Sequence": (Sequence[int], [(1,), [1]]),
    "Iterable": (Iterable[int], [(1,), [1], {1}]),
    "Collection": (Collection[int], [(1,), [1], {1}]),
    "Mapping": (Mapping[str, int], [{"a": 1}]),
    "MutableMapping": (MutableMapping[str, int], [{"a": 1}]),
    "collections.abc.Set": (AnySet[int], [frozenset({1})]),
    "X | Y": (uuid.UUID | str, [uuid.UUID(int=5), str(uuid.UUID(int=5))]),
    "Annotated[…]": (Annotated[int, pydantic.Field(gt=0)], [1]),
    "Any": (Any, [{"a": [1, b"x", None]}]),
    "object": (object, [[1, "a"]]),
    "dict[str, Any]": (dict[str, Any], [{"a": Decimal("1.0")}]),
    # A validator changes the value, so it cannot be compared here: see tests/unit/test_travel.py.
    "Json[…]": (pydantic.Json[list[int]], []),
    "__get_pydantic_core_schema__": (str, []),
}
NEVER: dict[str, Any] = {
    "Callable": AnyCallable[..., Any],
    "type[…]": type[int],
    "Iterator": Iterator[int],
    "BaseModel": pydantic.BaseModel,
}


def _first_column(heading: str) -> set[str]:
    table = PAGE.split(heading, 1)[1].split("\n\n", 1)[0].replace(r"\|", "¦")
    rows = [line.split("|")[1].replace("¦", "|") for line in table.splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_type_on_the_page_is_tested() -> None:
    assert _first_column("\n## Types\n") == TRAVELS.keys()


@pytest.mark.parametrize("name", TRAVELS)
def test_every_type_on_the_page_arrives_unchanged(name: str) -> None:
    annotation, values = TRAVELS[name]
    value = Value(annotation, "parameter 'x'")
    for sent in values:
        arrived = value.load(envelope.unpack(envelope.pack(value.dump(sent))))
        assert same(arrived, sent), (arrived, sent)


@pytest.mark.parametrize("name", NEVER)
def test_a_type_that_never_travels_is_an_error_at_definition(name: str) -> None:
    assert name in _first_column("| an error when the task is defined")
    with pytest.raises(ConfigurationError, match="parameter 'x'"):
        Value(NEVER[name], "parameter 'x'")
