"""The text of an exception: making it never raises, it is bounded in length, and it can be encoded."""

from __future__ import annotations

import sys
import traceback
import types
from collections.abc import Callable

import pytest

from taskfleet import describing


class _Text(str):
    __slots__ = ()

    def __getitem__(self, key: object) -> str:
        raise KeyError(key)

    def encode(self, *args: object) -> bytes:
        raise KeyError(args)


class _Odd(Exception):
    def __str__(self) -> str:
        return _Text("of a class of its own \ud800")


class _Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit


class _Closed(Exception):
    def __getattribute__(self, name: str) -> object:
        raise KeyError(name)


def test_an_ordinary_error_reads_as_ever() -> None:
    with pytest.raises(ValueError, match="no luck") as caught:
        raise ValueError("no luck")
    assert describing.describe(caught.value) == "ValueError: no luck"
    assert describing.trace(caught.value).startswith("Traceback (most recent call last):\n")
    assert describing.trace(caught.value).endswith("ValueError: no luck\n")


def test_a_cause_is_told() -> None:
    error = ValueError("after")
    error.__cause__ = KeyError("before")
    assert "KeyError: 'before'" in describing.trace(error)


@pytest.mark.parametrize("kind", [_Odd, _Silent, _Closed, ValueError])
def test_an_odd_error_has_a_bounded_text_that_can_be_encoded(kind: type[BaseException]) -> None:
    error = kind("x" * 10_000_000)
    for text in (describing.describe(error), describing.trace(error)):
        assert type(text) is str
        assert 0 < len(text) <= describing.TRACE_LIMIT + 1000
        text.encode()


def test_the_chain_of_an_error_is_bounded() -> None:
    error: BaseException = ValueError("last")
    for n in range(100_000):
        other = ValueError(str(n))
        other.__context__ = error
        error = other
    text = describing.trace(error)
    assert text.endswith("too many to show)\n")
    assert len(text) < 1000
    while error.__context__ is not None:  # one by one, because the interpreter frees a chain recursively
        error, error.__context__ = error.__context__, None


def test_the_end_of_a_deep_traceback_is_kept() -> None:
    def fall(n: int) -> None:
        if n:
            climb(n - 1)
        raise ValueError("ground")

    def climb(n: int) -> None:
        fall(n)

    with pytest.raises(ValueError, match="ground") as caught:
        fall(300)
    text = describing.trace(caught.value)
    assert len(text) <= describing.TRACE_LIMIT
    assert text.endswith("ValueError: ground\n")


# A traceback reads as the interpreter would write it, at the first error of a place and at the next ones.


def _divides() -> None:
    _ = [1 / n for n in (1, 0)]


def _with_a_cause() -> None:
    try:
        _divides()
    except ZeroDivisionError as error:
        raise _Plain("it could not divide") from error


def _with_a_context() -> None:
    try:
        _divides()
    except ZeroDivisionError:
        raise KeyError("no number")  # noqa: B904 - the context is what is tested


def _without_its_context() -> None:
    try:
        _divides()
    except ZeroDivisionError:
        raise KeyError from None


def _with_a_cause_that_was_never_raised() -> None:
    raise ValueError("after") from KeyError("before")


def _misspelt() -> None:
    divides_ = _divides  # noqa: F841 - the interpreter suggests it
    divide_()  # type: ignore[name-defined] # noqa: F821


def _of_no_attribute() -> None:
    "text".uper()  # type: ignore[attr-defined]


def _of_no_import() -> None:
    from taskfleet.describing import trase  # type: ignore[attr-defined] # noqa: F401


def _of_bad_code() -> None:
    compile("a b", "a file", "exec")


def _with_notes() -> None:
    error = ValueError("noted")
    error.add_note("of a thing")
    raise error


def _in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def _caused_by_a_group() -> None:
    try:
        _in_a_group()
    except ExceptionGroup as error:
        raise ValueError("after") from error


def _recurses(depth: int = 10) -> None:
    if depth == 0:
        raise ValueError("ground")
    _recurses(depth - 1)


def _in_copies_of_one_function() -> None:
    function: Callable[[], None] = _divides
    for _ in range(6):
        names: dict[str, Callable[[], None]] = {"inner": function}
        exec("def copied():\n    inner()", names)
        function = names["copied"]
    function()


def _of_many_lines() -> None:
    raise ValueError(
        "a text\nof several",
        sum(n for n in (1, 2)),
    )


def _in_a_class_inside() -> None:
    raise _Outer.Inner("inside")


def _of_a_metaclass() -> None:
    raise _Renamed("meta")


class _Plain(Exception):
    pass


class _Outer:
    class Inner(Exception):
        pass


class _Renaming(type):
    def __getattribute__(cls, name: str) -> object:
        return "Another" if name == "__qualname__" else super().__getattribute__(name)


class _Renamed(Exception, metaclass=_Renaming):
    pass


@pytest.mark.parametrize(
    "function",
    [
        _divides, _with_a_cause, _with_a_context, _without_its_context, _with_a_cause_that_was_never_raised, _misspelt,
        _of_no_attribute, _of_no_import, _of_bad_code, _with_notes, _in_a_group, _caused_by_a_group, _recurses,
        _in_copies_of_one_function, _of_many_lines, _in_a_class_inside, _of_a_metaclass,
    ],
)  # fmt: skip
def test_a_traceback_is_what_the_interpreter_writes(function: Callable[[], None]) -> None:
    for _ in range(3):
        error = _raised_by(function)
        assert describing.trace(error) == "".join(traceback.format_exception(error))


def _raised_by(function: Callable[[], None]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raises nothing")


def test_two_errors_of_one_function_have_their_own_lines_and_texts() -> None:
    def fails(n: int) -> None:
        if n:
            raise ValueError("first")
        raise ValueError("second")

    first, second = (describing.trace(_raised_by(lambda n=n: fails(n))) for n in (1, 0))  # type: ignore[misc]
    assert 'raise ValueError("first")' in first
    assert 'raise ValueError("second")' in second


def test_equal_code_of_two_files_is_told_apart() -> None:
    traces: list[str] = []
    for name in ("one.py", "two.py"):
        code = compile("raise ValueError('the same')", name, "exec")
        traces.append(describing.trace(_raised_by(types.FunctionType(code, {}))))
    assert '"one.py"' in traces[0]
    assert '"two.py"' in traces[1]


def test_a_limit_of_the_program_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    describing.trace(_raised_by(_divides))
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    error = _raised_by(_divides)
    assert describing.trace(error) == "".join(traceback.format_exception(error))


def test_the_texts_that_are_kept_are_bounded() -> None:
    for n in range(2 * describing._MOST_PLACES):
        names: dict[str, Callable[[], None]] = {}
        exec(f"def fails_{n}():\n    raise ValueError", names)
        describing.trace(_raised_by(names[f"fails_{n}"]))
    assert len(describing._PLACES) <= describing._MOST_PLACES


def test_a_repeated_error_is_formatted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    describing.trace(_raised_by(_with_a_cause))

    def never(*_args: object, **_options: object) -> list[str]:
        raise AssertionError("it was formatted again")

    error = _raised_by(_with_a_cause)
    monkeypatch.setattr(traceback, "format_exception", never)
    monkeypatch.setattr(traceback, "format_tb", never)
    assert describing.trace(error).endswith("_Plain: it could not divide\n")
