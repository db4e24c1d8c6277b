from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import Retry


def test_fixed_and_linear_delays() -> None:
    assert [Retry.fixed(3).seconds(n) for n in (1, 2, 9)] == [3, 3, 3]
    assert [Retry.linear(2, max_delay=5).seconds(n) for n in (1, 2, 3, 9)] == [2, 4, 5, 5]


def test_exponential_delays_double_up_to_the_most() -> None:
    retry = Retry.exponential(1, max_delay=10, jitter=False)
    assert [retry.seconds(n) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 10**6), st.floats(0, 1e6))
def test_jitter_stays_within_the_delay(attempt: int, base: float) -> None:
    full = Retry.exponential(base, jitter=False).seconds(attempt)
    assert 0 <= Retry.exponential(base).seconds(attempt) <= full <= 3600


def test_a_negative_delay_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        Retry.fixed(-1)
