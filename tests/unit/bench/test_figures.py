from __future__ import annotations

import pytest
from bench.figures import Figure, percentile

RUNS = (10.0, 30.0, 20.0)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile(values, 100) == 100.0


def test_the_99th_percentile_of_few_values_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0) == percentile([7.0], 99) == 7.0


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_figure_is_the_median_of_its_runs_and_keeps_them_in_order() -> None:
    record = Figure("taskfleet", "0.1.0", "drain", "tasks_per_second", "tasks/s", RUNS).as_json()
    assert record == {
        "peer": "taskfleet",
        "version": "0.1.0",
        "scenario": "drain",
        "metric": "tasks_per_second",
        "unit": "tasks/s",
        "median": 20.0,
        "min": 10.0,
        "max": 30.0,
        "runs": [10.0, 30.0, 20.0],
    }
