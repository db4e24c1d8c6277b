"""The page about growth: what is written in `page.md`, with the tables and pictures of one run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import report
from bench.curves import CHARTS, curves_of, drawing
from bench.figures import Figure, number
from bench.targets import verdicts

_TEMPLATE = Path(__file__).parent / "page.md"
_PLACE = re.compile(r"^\{(\w+)\}$", re.MULTILINE)
_MISSING = "(This run has no figures for it.)"


def pictures(figures: Sequence[Figure]) -> dict[str, str]:
    """File name → SVG, of the charts that these figures fill."""
    curves = curves_of(figures)
    drawn = {f"{chart.name}.svg": drawing(chart, curves) for chart in CHARTS}
    return {name: picture for name, picture in drawn.items() if picture}


def page(machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The text of the page. All numbers of measurements come from the figures."""
    parts = {
        "run": _run(machine),
        "targets": _targets(figures),
        "idle_worker": _idle_worker(figures),
        **report.growth_tables(figures),
    }
    drawn = pictures(figures)
    parts |= {chart.name: f"![{chart.title}]({chart.name}.svg)" for chart in CHARTS if f"{chart.name}.svg" in drawn}
    return _PLACE.sub(lambda match: parts.get(match[1]) or _MISSING, _TEMPLATE.read_text(encoding="utf-8"))


def _run(machine: Mapping[str, Any]) -> str:
    place = f"{machine['cpu']}, {machine['cores']} cores, {machine['redis']}, CPython {machine['python']}"
    return f"{machine['date']}: {place}; load average at the end {machine['load_average']}."


def _idle_worker(figures: Sequence[Figure]) -> str:
    """What one of the largest fleet costs, in a sentence."""
    curves = curves_of(figures)
    ends = {curve: points[-1] for (scenario, curve), points in curves.items() if scenario == "grow_workers"}
    if not ends:
        return ""
    size, commands = ends["commands_per_worker"]
    redis, held = (number(ends[curve][1]) for curve in ("redis_per_worker", "bytes_per_worker"))
    costs = f"{number(commands)} commands per second, {redis} µs of its processor per second, and {held} bytes"
    return f"**An idle worker costs Redis {costs}**, in a fleet of {size:,}."


def _targets(figures: Sequence[Figure]) -> str:
    judged = verdicts([figure for figure in figures if figure.scenario.startswith("grow_")], [])
    return report.target_table(judged) if judged else ""
