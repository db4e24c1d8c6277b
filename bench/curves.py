"""Pictures of how costs grow: `python -m bench.curves out.json FOLDER` draws the curves of a run as SVG."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 250, 64, 124, 44, 36

_STYLE = """<style>
    svg { background: #ffffff } text { fill: #0f172a } .axis { stroke: #94a3b8 } .grid { stroke: #e2e8f0 }
    .quiet { fill: #64748b } path { fill: none !important; stroke-width: 2 }
    .c0 { stroke: #2563eb; fill: #2563eb } .c1 { stroke: #d97706; fill: #d97706 } .c2 { stroke: #16a34a; fill: #16a34a }
    .c3 { stroke: #7c3aed; fill: #7c3aed } .c4 { stroke: #dc2626; fill: #dc2626 } path { fill: none !important }
    text { stroke: none }
    @media (prefers-color-scheme: dark) {
      svg { background: #0f172a } text { fill: #e2e8f0 } .axis { stroke: #475569 } .grid { stroke: #1e293b }
      .quiet { fill: #94a3b8 } .c0 { stroke: #60a5fa; fill: #60a5fa } .c1 { stroke: #fbbf24; fill: #fbbf24 }
      .c2 { stroke: #4ade80; fill: #4ade80 } .c3 { stroke: #c4b5fd; fill: #c4b5fd }
      .c4 { stroke: #f87171; fill: #f87171 } path { fill: none !important }
    }
  </style>"""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart: which figures it is made of, and its name."""

    scenario: str
    curve: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture: sizes from left to right, each ten times the one before; figures from 0 upwards."""

    file: str
    title: str
    across: str
    lines: Sequence[Line]


CHARTS = (
    Chart(
        "growth-claims",
        "A claim in Redis, p50, µs",
        "waiting tasks, or keys",
        [
            Line("grow_waiting", "claim_p50", "waiting"),
            Line("grow_delayed", "claim_p50", "delayed"),
            Line("grow_members", "claim_p50", "group members"),
            Line("grow_fair", "claim_p50", "fair keys"),
            Line("grow_limit", "claim_p50", "limit keys"),
        ],
    ),
    Chart(
        "growth-memory",
        "Memory of Redis, bytes each",
        "waiting tasks, or keys",
        [
            Line("grow_waiting", "bytes_each", "waiting"),
            Line("grow_delayed", "bytes_each", "delayed"),
            Line("grow_members", "bytes_each", "group members"),
            Line("grow_fair", "bytes_each", "fair keys"),
            Line("grow_limit", "bytes_each", "limit keys"),
        ],
    ),
    Chart(
        "growth-fleet",
        "Commands of an idle worker, per second",
        "workers of the fleet, or queues of one worker",
        [
            Line("grow_workers", "commands_per_worker", "by workers"),
            Line("grow_queues", "commands_with_queues", "by queues"),
        ],
    ),
)

Curves = Mapping[tuple[str, str], Sequence[tuple[int, float]]]
"""(scenario, curve) → (size, figure), the smallest size first."""


def curves_of(results: Sequence[Mapping[str, object]]) -> Curves:
    """The curves among the results of a run's JSON."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for result in results:
        curve, _, size = str(result["metric"]).partition(".")
        if size.isdecimal():
            found[str(result["scenario"]), curve].append((int(size), float(str(result["median"]))))
    return {key: sorted(points) for key, points in found.items()}


def drawing(chart: Chart, curves: Curves) -> str:
    """The SVG of a chart; empty when the run has none of its curves."""
    lines = [(line, curves[line.scenario, line.curve]) for line in chart.lines if (line.scenario, line.curve) in curves]
    if not lines:
        return ""
    sizes = sorted({size for _, points in lines for size, _ in points})
    highest = _round_up(max(figure for _, points in lines for _, figure in points))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: int) -> float:
        share = (math.log10(size) - first) / (last - first) if last > first else 0.0
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(figure: float) -> float:
        return _HEIGHT - _BOTTOM - figure / highest * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="11" role="img" aria-label="{escape(chart.title, quote=True)}">{_STYLE}',
        f'  <text x="{_LEFT - 48}" y="22" font-size="14" font-weight="600">{escape(chart.title)}</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        at = y(highest * share)
        parts.append(f'  <path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'  <text class="quiet" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{highest * share:,.4g}</text>'
        )
    parts += [
        f'  <text class="quiet" x="{x(size):.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{_short(size)}</text>'
        for size in sizes
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'  <text class="quiet" x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.across)}</text>'
    )
    for number, (line, points) in enumerate(lines):
        path = " ".join(f"{x(size):.1f},{y(figure):.1f}" for size, figure in points)
        parts.append(f'  <path class="c{number}" d="M{path}"/>')
        parts += [
            f'  <circle class="c{number}" cx="{x(size):.1f}" cy="{y(figure):.1f}" r="2"/>' for size, figure in points
        ]
    # The names stand in the order of the last figures, so that each is near the end of its curve.
    ends = sorted(enumerate(lines), key=lambda one: -one[1][1][-1][1])
    for place, (number, (line, _)) in enumerate(ends):
        at = _TOP + 10 + 18 * place
        parts.append(f'  <path class="c{number}" d="M{_WIDTH - _RIGHT + 12} {at - 4}h14"/>')
        parts.append(f'  <text x="{_WIDTH - _RIGHT + 32}" y="{at}">{escape(line.title)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _short(size: int) -> str:
    for unit, name in ((1_000_000, " M"), (1_000, " k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((power * step for step in (1, 2, 5) if power * step >= value), power * 10)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("bench.curves: give the JSON file of a run, and a folder for the pictures", file=sys.stderr)
        return 2
    run, folder = map(Path, arguments)
    curves = curves_of(json.loads(run.read_text(encoding="utf-8"))["results"])
    for chart in CHARTS:
        if picture := drawing(chart, curves):
            (folder / f"{chart.file}.svg").write_text(picture, encoding="utf-8")
            print(folder / f"{chart.file}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
