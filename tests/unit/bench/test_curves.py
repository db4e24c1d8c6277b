from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from bench.curves import CHARTS, Chart, Line, curves_of, drawing
from bench.figures import Figure
from bench.report import ACROSS
from bench.scenarios import SCENARIOS, UNITS

CHART = Chart(
    "claims", "Claims & more", "tasks", [Line("grow_waiting", "claim_p50", "waiting <1>"), Line("x", "y", "z")]
)


def points(curve: str, *values: tuple[int, float], scenario: str = "grow_waiting") -> list[Figure]:
    return [Figure("taskfleet", "0.1.0", scenario, f"{curve}.{size}", "µs", (value,)) for size, value in values]


FIGURES = points("claim_p50", (100_000, 51.0), (1_000, 50.0), (10_000, 49.0))
"""Out of order."""


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


def test_a_curve_has_the_medians_from_the_smallest_size_to_the_largest() -> None:
    others = [Figure("taskfleet", "0.1.0", "features", "retry.worker_us", "µs", (1.0,)), *points("tasks")]
    thrice = Figure("taskfleet", "0.1.0", "grow_fair", "bytes_each.5", "bytes", (1.0, 9.0, 2.0))
    assert curves_of([*FIGURES, *others, thrice]) == {
        ("grow_waiting", "claim_p50"): [(1_000, 50.0), (10_000, 49.0), (100_000, 51.0)],
        ("grow_fair", "bytes_each"): [(5, 2.0)],
    }


def test_a_drawing_has_the_curves_that_the_run_has_and_says_what_they_are() -> None:
    svg = drawing(CHART, curves_of(FIGURES))
    assert texts(svg) == ["Claims & more", "0", "50", "100", "1 k", "10 k", "100 k", "tasks", "waiting <1>"]
    assert svg.count("<circle") == 3


def test_sizes_are_placed_by_their_logarithms_and_figures_from_zero_upwards() -> None:
    svg = drawing(CHART, curves_of(points("claim_p50", (10, 0.0), (100, 50.0), (1_000, 100.0))))
    xs, ys = ([float(at) for at in re.findall(rf'{axis}="([\d.]+)" ?(?:cy|r)', svg)] for axis in ("cx", "cy"))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
    assert ys[0] > ys[2]


def test_a_drawing_has_colours_for_light_and_for_dark_pages() -> None:
    assert "prefers-color-scheme: dark" in drawing(CHART, curves_of(FIGURES))


def test_a_single_point_and_a_figure_of_nothing_are_drawn_too() -> None:
    assert drawing(CHART, curves_of(points("claim_p50", (7, 0.0)))).count("<circle") == 1


def test_without_its_curves_there_is_no_drawing() -> None:
    assert drawing(CHART, curves_of(points("bytes_each", (1, 1.0)))) == ""


def test_the_charts_draw_what_the_scenarios_measure() -> None:
    assert {line.scenario for chart in CHARTS for line in chart.lines} == set(ACROSS)
    assert set(ACROSS) == {name for name in SCENARIOS if name.startswith("grow_")}
    assert {line.curve for chart in CHARTS for line in chart.lines} <= set(UNITS)
