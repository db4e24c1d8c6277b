"""The types of docs/reference/types.md: values that arrive, values that are refused, annotations that are errors."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import pathlib
import re
import threading
import typing
import uuid
import zoneinfo
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgpack
import pydantic
import pytest
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from taskfleet.errors import ConfigurationError, NewerVersionError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import PydanticJson, TypedForm
from taskfleet.travel import promise
from taskfleet.travel.same import same
from taskfleet.travel.value import Value

T = TypeVar("T")
PARIS = zoneinfo.ZoneInfo("Europe/Paris")


class Colour(enum.IntEnum):
    RED = 1


class Shape(enum.Enum):
    PAIR = (1, 2)
    TEXT = "1"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Aliased(BaseModel):
    n: int = Field(7, alias="orderId")


class AliasedWithout(BaseModel):
    n: int = Field(alias="orderId")


class ManyAliases(BaseModel):
    a: int = Field(validation_alias=AliasChoices("x", "y"))
    b: int = Field(5, validation_alias=AliasPath("p", 0))
    c: int = Field(6, serialization_alias="cc")


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Secrets(BaseModel):
    password: SecretStr
    key: pydantic.SecretBytes | None = None


class Excluded(BaseModel):
    kept: int
    hidden: int = Field(3, exclude=True)


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field
    def twice(self) -> int:
        return 2 * self.a


class Parent(BaseModel):
    a: int = 1


class Child(Parent):
    b: int = 2


class Shouting(BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def shout(cls, text: str) -> str:
        return text + "!"


class Counting(BaseModel):
    n: int

    @pydantic.model_validator(mode="after")
    def count(self) -> Counting:
        self.n += 1
        return self


class OwnDump(BaseModel):
    n: int

    @pydantic.field_serializer("n")
    def halve(self, n: int) -> int:
        return n // 2


class Private(BaseModel):
    a: int
    _seen: int = 0
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Measured(BaseModel):
    f: float
    maybe: float | None = None


class Timed(BaseModel):
    at: dt.datetime


class Raw(BaseModel):
    data: bytes


class BadDefault(BaseModel):
    n: int = None  # type: ignore[assignment]


class Page(BaseModel, Generic[T]):
    items: list[T]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Alike(BaseModel):
    lives: int = 1


class AlikeToo(BaseModel):
    lives: int = 1


class Tree(BaseModel):
    children: list[Tree] = []


class Root(pydantic.RootModel[dict[int, str]]):
    pass


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    on: dt.date
    by: dict[int, str]


class Point(NamedTuple):
    x: int
    label: str = ""


@dataclasses.dataclass
class Counter:
    n: int
    times: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.times += 1


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    n: int
    when: dt.date


@dataclasses.dataclass
class FromOutside:
    n: int
    factor: dataclasses.InitVar[int] = 2

    def __post_init__(self, factor: int) -> None:
        self.n *= factor


class Celsius:
    """An application class with a pydantic schema."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and self.degrees == other.degrees

    def __hash__(self) -> int:
        return hash(self.degrees)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, cls) else cls(float(given)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.degrees),
        )


class Rounded(Celsius):
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, cls) else cls(float(given)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: round(value.degrees)),
        )


def changed(model: Any, **state: Any) -> Any:
    """A model that is changed after its validation."""
    for name, value in state.items():
        setattr(model, name, value)
    return model


def travels(annotation: Any, sent: Any) -> Any:
    """The value of an argument after the way through the envelope."""
    value = Value(annotation, "task 't', parameter 'x'")
    return value.load(envelope.unpack(envelope.pack(value.dump(sent))))


ARRIVES: list[tuple[Any, Any]] = [
    # Values that earlier versions did not carry.
    (Aliased, Aliased(orderId=42)),
    (AliasedWithout, AliasedWithout(orderId=42)),
    (ManyAliases, ManyAliases.model_validate({"x": 1, "p": [9]})),
    (Swapped, Swapped(a=2, b=1)),
    (SecretStr, SecretStr("s3")),
    (pydantic.SecretBytes, pydantic.SecretBytes(b"s3")),
    (Secrets, Secrets(password=SecretStr("s3"))),
    (list[Secrets], [Secrets(password=SecretStr("s3"), key=pydantic.SecretBytes(b"\xff"))]),
    (Excluded, Excluded(kept=1, hidden=2)),
    (Parent | Child, Child(b=5)),
    (str | bytes, b"test"),
    (str | bytes, "dGVzdA=="),
    (uuid.UUID | str, "c0ffee00-0000-4000-8000-000000000000"),
    (uuid.UUID | str, uuid.UUID(int=7)),
    (dt.date | str, "2025-01-01"),
    (dt.date | str, dt.date(2025, 1, 1)),
    (tuple | list, (1, 2)),
    (tuple | list, [1, 2]),
    (set | list, {1, 2}),
    (set | list, [1, 2]),
    (int | float, 1.0),
    (int | float, 1),
    (float | int, 1),
    (bool | int, 1),
    (int | bool, True),
    (Decimal | float, 1.5),
    (Decimal | float, Decimal("1.5")),
    (Colour | int, 1),
    (Colour | int, Colour.RED),
    (dict, {2025: 10}),
    (dict[Any, Any], {2025: (1, 2), None: {3}}),
    (dict[Colour, int], {Colour.RED: 1}),
    (dict[bytes, int], {b"\xff": 1}),
    (dict[tuple[int, str], int], {(1, "a"): 1}),
    (dict[dt.date, int], {dt.date(2025, 1, 1): 1}),
    (dict[None, int], {None: 1}),
    (dict[float, int], {0.5: 1}),
    (dict[bool, int], {True: 1}),
    (Computed, Computed(a=2)),
    (Page[Aliased], Page[Aliased](items=[Aliased(orderId=3)])),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(lives=2)),
    (Alike | AlikeToo, AlikeToo(lives=3)),
    (Parent | dict, {"a": 1}),
    (Parent | dict, Parent()),
    (dict[str, int] | Frozen, {"n": 1}),
    (list[Parent | dict], [{"a": 1}, Parent()]),
    (SecretStr | str, ""),
    (list[set[int | SecretStr | str]], [{""}]),
    (pathlib.Path | str, "/a"),
    (list[Point | tuple[int, str]], [(1, "a"), Point(1)]),
    # Kinds of models.
    (Private, changed(Private(a=1), _seen=4)),
    (Open, Open(a=1, b=(1, 2), c=dt.date(2025, 1, 1))),
    (Measured, Measured(f=math.inf)),
    (Measured, Measured(f=math.nan, maybe=-math.inf)),
    (Measured, Measured(f=-0.0)),
    (Raw, Raw(data=b"\xff\x00")),
    (Raw, Raw(data=b"abc")),
    (BadDefault, BadDefault()),
    (OwnDump, OwnDump(n=7)),
    (Root, Root({1: "a"})),
    (Strict, Strict(on=dt.date(2025, 1, 1), by={1: "a"})),
    (Tree, Tree(children=[Tree(), Tree(children=[Tree()])])),
    (Point, Point(1, "a")),
    (list[Point], [Point(1)]),
    (Frozen, Frozen(1, dt.date(2025, 1, 1))),
    (Shape, Shape.PAIR),
    (Shape, Shape.TEXT),
    (Rights, Rights.READ | Rights.WRITE),
    (Literal[b"x", 1, "1"], "1"),
    (Literal[Shape.PAIR], Shape.PAIR),
    (Any, [1, {"a": None, 2: b"x"}, -0.0]),
    (object, {"a": [1.5]}),
    (list, [(1, [2]), {3}, dt.timedelta(1)]),
    (dict[str, Any], {"a": bytearray(b"x"), "b": frozenset([1])}),
    (Sequence[int], (1, 2)),
    (Sequence[int], [1, 2]),
    (Sequence[int], collections.deque([1, 2])),
    (Mapping[str, int], {"a": 1}),
    (Iterable[int], {1, 2}),
    (Iterable[int], [1, 2]),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
    (collections.defaultdict[str, list[int]], collections.defaultdict(list, a=[1])),
    (collections.Counter[str], collections.Counter("aab")),
    (collections.deque[int], collections.deque([1, 2], maxlen=3)),
    (range, range(0, 9, 2)),
    (complex, 1 + 2j),
    (Fraction, Fraction(1, 3)),
    (re.Pattern[str], re.compile("a+", re.IGNORECASE)),
    (pathlib.PurePath, pathlib.PureWindowsPath("c:\\a")),
    (pathlib.Path, pathlib.Path("/a")),
    (ipaddress.IPv6Network, ipaddress.ip_network("2001:db8::/32")),
    (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/a?b=c")),
    (zoneinfo.ZoneInfo, PARIS),
    (dt.datetime, dt.datetime(1, 1, 1)),
    (dt.datetime, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, dt.UTC)),
    (dt.datetime, dt.datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=PARIS)),
    (dt.datetime, dt.datetime(1800, 1, 1, tzinfo=PARIS)),
    (list[dt.datetime], [dt.datetime(2025, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=3)))]),
    (dt.time, dt.time(1, 2, tzinfo=PARIS)),
    (dt.timedelta, dt.timedelta.min),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (Decimal, Decimal("-0E-20")),
    (list[int], [2**70, -(2**70), 10**5000]),
    (float | None, math.nan),
    (str | None, "a"),
    (Celsius, Celsius(20.5)),
    (list[Celsius], [Celsius(1.0)]),
    (TypeVar("V"), {1: (2,)}),
    (typing.NewType("Id", int), 3),
    (pydantic.Secret[int], pydantic.Secret[int](3)),
]


@pytest.mark.parametrize(("annotation", "sent"), ARRIVES)
def test_it_arrives_equal_and_of_its_type(annotation: Any, sent: Any) -> None:
    arrived = travels(annotation, sent)
    if isinstance(sent, Private):
        assert arrived._seen == sent._seen
        assert arrived._lock is not None
        return
    assert same(arrived, sent), arrived
    if isinstance(sent, dt.datetime) and sent.fold:
        assert arrived.fold == sent.fold


@pytest.mark.parametrize(("annotation", "sent"), ARRIVES)
def test_a_result_comes_back_equal_and_of_its_type(annotation: Any, sent: Any) -> None:
    value = Value(annotation, "task 't', result")
    for passed_on in (False, True):
        forms = envelope.unpack(envelope.pack(value.forms_of_result(sent, passed_on=passed_on)))
        if not isinstance(sent, Private):
            assert same(value.load(forms[-1]), sent)


@pytest.mark.parametrize(("annotation", "sent"), [(int, 2**70), (int | None, -(2**64))])
def test_a_result_may_be_a_whole_number_of_any_size(annotation: Any, sent: int) -> None:
    value = Value(annotation, "task 't', result")
    forms = envelope.unpack(envelope.pack(value.forms_of_result(sent, passed_on=False)))
    assert value.load(forms[-1]) == value.load(forms[0]) == sent


ONCE: list[tuple[Any, Any, Any]] = [
    (Annotated[str, AfterValidator(lambda text: text + "!")], "a", "a!"),
    (Annotated[str, BeforeValidator(lambda text: text + "!")], "a", "a!"),
    (Annotated[int, pydantic.WrapValidator(lambda n, inner: inner(n) + 1)], 1, 2),
    (Annotated[str, AfterValidator(len)], "abc", 3),
    (Shouting, {"text": "a"}, "a!"),
    (Counting, {"n": 1}, 2),
    (list[Annotated[str, AfterValidator(lambda text: text + "!")]], ["a"], ["a!"]),
    (pydantic.Json[list[int]], "[1, 2]", [1, 2]),
    (pydantic.Base64Bytes, b"YWJj", b"abc"),
    (Counter, Counter(1), 1),
    (FromOutside, FromOutside(2), 4),
]


@pytest.mark.parametrize(("annotation", "sent", "right"), ONCE)
def test_validators_run_once(annotation: Any, sent: Any, right: Any) -> None:
    arrived = travels(annotation, sent)
    for attribute in ("text", "times", "n"):
        if hasattr(arrived, attribute):
            arrived = getattr(arrived, attribute)
            break
    assert arrived == right


CONVERTED: list[tuple[Any, Any, Any]] = [
    (int, "3", 3),
    (list[int], ("1", 2), [1, 2]),
    (dt.date, "2025-01-01", dt.date(2025, 1, 1)),
    (Aliased, {"orderId": 5}, Aliased(orderId=5)),
    (Decimal, "1.10", Decimal("1.10")),
    (pydantic.PastDate | Parent, {"a": 1}, Parent()),
    (Sequence[int] | Parent, ["1"], [1]),
    (list[Parent | Frozen], [{"a": "2"}], [Parent(a=2)]),
]


@pytest.mark.parametrize(("annotation", "sent", "right"), CONVERTED)
def test_a_value_that_pydantic_converts_arrives_converted(annotation: Any, sent: Any, right: Any) -> None:
    assert same(travels(annotation, sent), right)


REFUSED: list[tuple[Any, Any, str]] = [
    (Parent, Child(), "a Child where Parent is annotated"),
    (list[Parent], [Parent(), Child()], "a Child where Parent is annotated"),
    (dict[str, Parent | None], {"a": Child()}, "a Child where Parent is annotated"),
    (Parent, changed(Parent(), a="x"), "a: a str where int is annotated"),
    (Parent, changed(Parent(), a=None), "a: a NoneType where int is annotated"),
    (Timed, changed(Timed(at=dt.datetime(2025, 1, 1)), at="x"), "at: Input should be a valid datetime"),
    (Measured, changed(Measured(f=1), f="x"), "f: a str where float is annotated"),
    (Rounded, Rounded(1.4), "a Rounded cannot travel"),
    (int, "x", "valid integer"),
    (Any, bytearray(b"x"), "a bytearray"),
    (Any, {"a": [memoryview(b"x")]}, "a memoryview"),
    (Any, msgpack.ExtType(1, b"1"), "a ExtType"),
    (list, [threading.Lock()], "a lock cannot travel"),
    (dict, {"a": Parent()}, "a Parent cannot travel"),
    (collections.defaultdict[str, int], collections.defaultdict(lambda: 1), "a defaultdict"),
    (Annotated[int, AfterValidator({}.__getitem__)], 1, "KeyError"),
    (type(None), 0, "None"),
]


@pytest.mark.parametrize(("annotation", "sent", "problem"), REFUSED)
def test_a_value_that_would_not_arrive_is_refused_and_the_parameter_named(
    annotation: Any, sent: Any, problem: str
) -> None:
    with pytest.raises(SerializationError, match="parameter 'x': ") as refused:
        Value(annotation, "task 't', parameter 'x'").dump(sent)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for annotation in (Any, list, list[Any]):
        with pytest.raises(SerializationError, match="nested too deeply, or in itself"):
            Value(annotation, "task 't', parameter 'x'").dump(circle)


NEVER: list[Any] = [
    Callable[[int], int],
    type[int],
    Iterator[int],
    Generator[int],
    threading.Thread,
    list[Callable[[], int]],
    Callable[[], int] | type[int],
    dict[str, threading.Thread],
]


@pytest.mark.parametrize("annotation", NEVER)
def test_a_type_that_can_never_travel_is_an_error_at_definition(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match="parameter 'x': values of this annotation can never travel"):
        Value(annotation, "task 't', parameter 'x'")


def test_an_annotation_of_a_later_class_is_resolved_at_its_first_use() -> None:
    class First(BaseModel):
        second: Second

    value = Value(First, "task 't', parameter 'x'")
    with pytest.raises(ConfigurationError, match="parameter 'x'"):
        value.dump({})

    class Second(BaseModel):
        n: int

    First.model_rebuild(_types_namespace={"Second": Second})
    given = First(second=Second(n=1))
    assert Value(First, "p").load(Value(First, "p").dump(given)) == given


# Between versions.


def test_data_of_the_version_before_is_read() -> None:
    class Order(BaseModel):
        n: int = Field(alias="orderId")
        at: dt.datetime

    old = PydanticJson(b'{"n":42,"at":"2025-01-01T00:00:00Z"}')
    assert Value(Order, "p").load(old) == Order(orderId=42, at=dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
    assert Value(list[uuid.UUID], "p").load(PydanticJson(b'["00000000-0000-0000-0000-000000000007"]')) == [
        uuid.UUID(int=7)
    ]


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        (Aliased, Aliased(orderId=1)),
        (dt.datetime, dt.datetime(2025, 1, 1, tzinfo=dt.UTC)),
        (list[uuid.UUID], [uuid.UUID(int=1)]),
        (Decimal, Decimal(1)),
        (Frozen, Frozen(1, dt.date(2025, 1, 1))),
        (Page[Decimal], Page[Decimal](items=[Decimal(1)])),
        (Annotated[Cat | Dog, Field(discriminator="kind")], Cat()),
    ],
)
def test_a_value_that_json_restores_goes_as_json_for_the_version_before(annotation: Any, sent: Any) -> None:
    form = Value(annotation, "p").dump(sent)
    assert type(form) is PydanticJson
    assert pydantic.TypeAdapter(annotation).validate_json(form) == sent


def test_a_class_that_has_changed_between_versions_is_validated() -> None:
    class Order(BaseModel):
        secret: SecretStr
        n: int

    before = Value(Order, "p")

    class Order(BaseModel):  # type: ignore[no-redef]
        secret: SecretStr
        n: float
        more: int = 5

    form = before.dump({"secret": "x", "n": 1})
    assert type(form) is TypedForm
    arrived = Value(Order, "p").load(form)
    assert (type(arrived), arrived.n, arrived.more, arrived.secret.get_secret_value()) == (Order, 1.0, 5, "x")


def test_a_typed_form_that_does_not_fit_is_refused() -> None:
    for annotation, form in [
        (Secrets, ["M", "Parent", {"a": 1}, None, None, {}]),
        (Secrets, ["M", "Secrets", {"password": 1}, None, None, {}]),
        (Secrets, ["nonsense"]),
        (SecretStr, ["*", 5]),
        (uuid.UUID | str, ["E", "Colour", "RED", 1]),
        (tuple | list, ["c", 1]),
        (Shape, ["E", "Shape", "NO", None]),
        (complex, ["j", "a", []]),
    ]:
        with pytest.raises(SerializationError, match="parameter 'x'"):
            Value(annotation, "parameter 'x'").load(TypedForm(envelope.pack(form)))


def test_an_envelope_with_a_typed_form_is_of_a_version_that_older_programs_leave_to_newer_ones() -> None:
    plain = envelope.encode("t", [1], {}, {})
    typed = envelope.encode("t", [TypedForm(b"\x01")], {}, {}, envelope.TYPED)
    assert envelope.version_of(plain) == 1
    assert envelope.version_of(typed) == 17
    assert envelope.newer_version(typed, "the payload") is None
    assert isinstance(envelope.newer_version(envelope.pack([18, "t"]), "the payload"), NewerVersionError)
    assert envelope.decode(bytes(8) + typed).args == [TypedForm(b"\x01")]


def _unchecked(cls: Any, **fields: Any) -> Any:
    return cls.model_construct(**fields)


class Part(BaseModel):
    key: str
    factor: float = 1.0


class Inner(BaseModel):
    kind: Literal["inner"] = "inner"
    n: pydantic.PositiveInt = 1


class Outer(BaseModel):
    kind: Literal["outer"] = "outer"


class Both(BaseModel):
    model_config = ConfigDict(extra="forbid")

    one: Annotated[Inner | Outer, Field(discriminator="kind")]
    nothing: None = None


def test_constraints_and_nulls_leave_a_model_json() -> None:
    for annotation, sent in [
        (Both, Both(one=Inner())),
        (list[Both], [Both(one=Outer()), Both(one=Inner())]),
        (dict[str, Measured], {"a": Measured()}),
        (Constrained, Constrained(parts=[Part(key="null"), Part(key="b")])),
    ]:
        value = Value(annotation, "p")
        form = value.dump(sent)
        assert type(form) is PydanticJson, sent
        assert same(value.load(form), sent)


class Constrained(BaseModel):
    n: int = Field(1, gt=0, alias="number")
    text: str = "a"
    maybe: str | None = None
    parts: list[Part] = []


class Free(BaseModel):
    n: int = 1
    text: str = "a"
    maybe: str | None = None
    kind: Literal["a"] = "a"


@dataclasses.dataclass
class Measured:
    n: Annotated[int, Field(ge=0)] = 0
    text: str = "x"
    maybe: str | None = None


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (Constrained, {"n": -4}),
        (Constrained, {"n": True}),
        (Constrained, {"text": None}),
        (Constrained, {"parts": [_unchecked(Part, key=None)]}),
        (Constrained, {"parts": [_unchecked(Part, key=3)]}),
        (Free, {"n": None}),
        (Free, {"text": None, "maybe": "x"}),
        (Free, {"n": "1"}),
        (Free, {"kind": "b"}),
        (Measured, {"n": -1}),
        (Measured, {"text": None}),
    ],
)
def test_an_object_that_was_changed_and_does_not_fit_any_more_is_refused(cls: Any, change: dict[str, Any]) -> None:
    value, inside, named = (Value(annotation, "parameter 'x'") for annotation in (cls, list[cls], dict[str, cls]))
    changed = cls()
    assert type(value.dump(changed)) is PydanticJson
    for name, each in change.items():
        setattr(changed, name, each)
    name = min(change)
    for travels, sent in ((value, changed), (inside, [cls(), changed]), (named, {"k": changed})):
        with pytest.raises(SerializationError, match=f"parameter 'x': .*{name if 'maybe' not in change else 'text'}: "):
            travels.dump(sent)


@pytest.mark.parametrize("annotation", [BaseModel, list[BaseModel], dict[str, BaseModel]])
def test_a_model_without_a_name_can_never_travel(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"parameter .x.: .*names no model"):
        Value(annotation, "parameter 'x'")


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        (Literal[1] | bool, True),
        (Literal[0, "a"] | bool, False),
        (Sequence[pydantic.SecretBytes | bytes], (b"x",)),
        (Sequence[Sequence[SecretStr | str]], (("x",),)),
        (Sequence[Part | dict[str, Any]], [{"key": "a"}]),
        (
            collections.deque[collections.deque[pydantic.SecretBytes | bytes]],
            collections.deque([collections.deque([b""])]),
        ),
        (collections.OrderedDict[str, pydantic.SecretBytes | bytes], collections.OrderedDict(a=b"x")),
        (collections.defaultdict[str, list[SecretStr | str]], collections.defaultdict(list, {"a": ["x"]})),
    ],
)
def test_a_union_keeps_the_part_that_was_sent(annotation: Any, sent: Any) -> None:
    value = Value(annotation, "p")
    assert same(value.load(envelope.unpack(envelope.pack(value.dump(sent)))), sent)


class Raised(BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def _one_more(cls, n: int) -> int:
        return n + 1


class Doubled(BaseModel):
    n: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def _twice(cls, data: Any) -> Any:
        return {"n": 2 * data["n"]} if isinstance(data, dict) else data


One = Annotated[int, pydantic.AfterValidator(lambda n: n + 1)]
Loud = Annotated[str, pydantic.AfterValidator(str.upper)]


@pytest.mark.parametrize(
    ("annotation", "sent", "arrives"),
    [
        (Raised | dict[str, int], {"n": 1}, {"n": 1}),
        (Doubled | dict[str, int], {"n": 1}, {"n": 1}),
        (list[Raised | dict[str, Any]], [{"n": 1}], [{"n": 1}]),
        (Raised | dict[str, int], Raised(n=1), Raised.model_construct(n=2)),
        (Raised | str, {"n": 1}, Raised.model_construct(n=2)),  # pydantic's conversion, as in FastAPI
        (One | str, 1, 2),
        (One | str, "1", "1"),
        (Loud | int, "a", "A"),
        (One | Loud, "b", "B"),
        (list[One | str], [1, "a"], [2, "a"]),
        (dict[str, One | None], {"a": 1, "b": None}, {"a": 2, "b": None}),
        (Annotated[str, pydantic.AfterValidator(uuid.UUID)] | None, "0" * 32, uuid.UUID(int=0)),
        (Annotated[int | str, pydantic.AfterValidator(lambda each: each * 2)], "a", "aa"),
    ],
)
def test_a_union_with_validators_runs_them_once_and_keeps_the_part(annotation: Any, sent: Any, arrives: Any) -> None:
    value = Value(annotation, "p")
    assert same(value.load(envelope.unpack(envelope.pack(value.dump(sent)))), arrives)
    last = value.forms_of_result(sent, passed_on=True)[-1]
    assert same(value.load(envelope.unpack(envelope.pack(last))), arrives)


def test_only_a_model_with_constraints_is_validated_again() -> None:
    class Plain(BaseModel):
        at: dt.datetime
        day: dt.date
        pause: dt.timedelta
        price: Decimal
        key: uuid.UUID
        shape: Shape

    assert not promise.of(Plain.__pydantic_core_schema__).constrained
    assert promise.of(Constrained.__pydantic_core_schema__).constrained
