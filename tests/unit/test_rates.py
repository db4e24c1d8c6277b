"""Rates from counters that are read now and then."""

from __future__ import annotations

from taskfleet.watching.rates import Rates


def test_a_rate_is_the_mean_of_the_last_ten_seconds() -> None:
    rates = Rates()
    for second in range(30):
        rates.add(float(second), (100 if second < 15 else 100 + (second - 15) * 7,))
    assert rates.per_second() == (7.0,)


def test_after_a_pause_in_which_nobody_looked_the_rate_is_not_known() -> None:
    rates = Rates()
    rates.add(0.0, (0,))
    rates.add(2.0, (60,))
    assert rates.per_second() == (30.0,)
    rates.add(92.0, (750,))  # all of them in the first seconds: 7.5 a second would be no figure of now
    assert rates.per_second() is None
    rates.add(94.0, (750,))
    assert rates.per_second() == (0.0,)
