"""The text of an exception: making it never raises, it is bounded in length, and it can be encoded."""

from __future__ import annotations

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
