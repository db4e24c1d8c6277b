"""Pictures of how costs grow: the curves of a run as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Figure

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 250, 64, 132, 44, 36
_COLOURS = (
    ("#2563eb", "#60a5fa"),
    ("#b45309", "#fbbf24"),
    ("#15803d", "#4ade80"),
    ("#7c3aed", "#c4b5fd"),
    ("#dc2626", "#f87171"),
)
"""Of the curves of a chart, in order: on a light page, and on a dark one."""

Point = tuple[int, float]
Curves = Mapping[tuple[str, str], Sequence[Point]]
"""(scenario, curve) → (size, figure), the smallest size first."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart: which figures it is made of, and its name."""

    scenario: str
    curve: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture: sizes from left to right, on a scale of logarithms; figures from 0 upwards."""

    name: str
    title: str
    across: str
    lines: Sequence[Line]


def _by_what_waits(name: str, title: str, curve: str) -> Chart:
    titles = {
        "grow_waiting": "waiting",
        "grow_delayed": "delayed",
        "grow_members": "group members",
        "grow_fair": "fair keys",
        "grow_limit": "limit keys",
    }
    lines = [Line(scenario, curve, what) for scenario, what in titles.items()]
    return Chart(name, title, "tasks, or keys with a task each", lines)


CHARTS = (
    _by_what_waits("claims", "A claim inside Redis, p50, µs", "claim_p50"),
    _by_what_waits("memory", "Memory of Redis, bytes for each", "bytes_each"),
    Chart(
        "workers",
        "An idle worker, times per second",
        "workers of the fleet",
        [
            Line("grow_workers", "commands_per_worker", "commands"),
            Line("grow_workers", "scripts_per_worker", "scripts"),
            Line("grow_workers", "waits_per_worker", "blocked reads"),
            Line("grow_workers", "beats_per_worker", "heartbeats"),
        ],
    ),
    Chart(
        "queues",
        "An idle worker, commands per second",
        "queues that it serves",
        [Line("grow_queues", "commands_with_queues", "commands")],
    ),
    Chart(
        "looks",
        "One look at the fleet, µs of Redis for each",
        "workers, or queues",
        [
            Line("grow_workers", "look_per_worker", "of the workers"),
            Line("grow_queues", "look_per_queue", "of the queues"),
        ],
    ),
    Chart(
        "partitions",
        "Processor time of a task in Redis, µs",
        "partitions of the queue",
        [
            Line("grow_cluster_3", "redis_us", "all 3 nodes"),
            Line("grow_cluster_6", "redis_us", "all 6 nodes"),
            Line("grow_cluster_3", "busiest_us", "busiest of 3"),
            Line("grow_cluster_6", "busiest_us", "busiest of 6"),
        ],
    ),
)


def point_of(metric: str) -> tuple[str, int] | None:
    """(curve, size) of a metric that is a point of a curve."""
    curve, _, size = metric.partition(".")
    return (curve, int(size)) if size.isdecimal() else None


def curves_of(figures: Sequence[Figure]) -> Curves:
    """The curves among the figures of a run."""
    found: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for figure in figures:
        if (point := point_of(figure.metric)) is not None:
            curve, size = point
            found[figure.scenario, curve].append((size, figure.median))
    return {key: sorted(points) for key, points in found.items()}


def drawing(chart: Chart, curves: Curves) -> str:
    """The SVG of a chart; empty when the run has none of its curves."""
    lines = [(line, curves[line.scenario, line.curve]) for line in chart.lines if (line.scenario, line.curve) in curves]
    if not lines:
        return ""
    scale = _Scale.of([point for _, points in lines for point in points])
    title = escape(chart.title, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="11" role="img" aria-label="{title}">'
    )
    parts = [
        head,
        _style(),
        f'  <rect width="{_WIDTH}" height="{_HEIGHT}" class="page"/>',
        f'  <text x="16" y="24" font-size="14" font-weight="600">{escape(chart.title)}</text>',
        *_axes(chart, scale),
        *(part for number, (_, points) in enumerate(lines) for part in _curve(number, points, scale)),
        *_names(lines),
        "</svg>",
    ]
    return "\n".join([*parts, ""])


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a point is in the picture."""

    sizes: Sequence[int]
    highest: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Scale:
        return cls(sorted({size for size, _ in points}), _round_up(max(figure for _, figure in points)))

    def x(self, size: int) -> float:
        first, last = self.sizes[0], self.sizes[-1]
        share = math.log(size / first) / math.log(last / first) if last > first else 0.0
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, figure: float) -> float:
        return _HEIGHT - _BOTTOM - max(0.0, figure) / self.highest * (_HEIGHT - _TOP - _BOTTOM)


def _axes(chart: Chart, scale: _Scale) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        at = scale.y(scale.highest * share)
        yield f'  <path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
        text = f"{scale.highest * share:,.4g}"
        yield f'  <text class="quiet" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    beside = _HEIGHT - _BOTTOM + 15
    for size in scale.sizes:
        yield f'  <text class="quiet" x="{scale.x(size):.1f}" y="{beside}" text-anchor="middle">{_short(size)}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) // 2
    yield f'  <text class="quiet" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.across)}</text>'


def _curve(number: int, points: Sequence[Point], scale: _Scale) -> Iterator[str]:
    places = [(scale.x(size), scale.y(figure)) for size, figure in points]
    yield f'  <path class="c{number}" d="M{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
    for x, y in places:
        yield f'  <circle class="c{number}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'


def _names(lines: Sequence[tuple[Line, Sequence[Point]]]) -> Iterator[str]:
    """The names stand in the order in which the curves end, the highest first."""
    left = _WIDTH - _RIGHT
    ends = sorted(((points[-1][1], number, line.title) for number, (line, points) in enumerate(lines)), reverse=True)
    for place, (_, number, title) in enumerate(ends):
        at = _TOP + 10 + 18 * place
        yield f'  <path class="c{number}" d="M{left + 12} {at - 4}h14"/>'
        yield f'  <text x="{left + 32}" y="{at}">{escape(title)}</text>'


def _style() -> str:
    light = "".join(f".c{n}{{stroke:{colour}}}" for n, (colour, _) in enumerate(_COLOURS))
    dark = "".join(f".c{n}{{stroke:{colour}}}" for n, (_, colour) in enumerate(_COLOURS))
    return "\n".join(
        [
            "  <style>",
            "    .page{fill:#ffffff} text{fill:#0f172a} .quiet{fill:#64748b} .grid{stroke:#e2e8f0}",
            "    path,circle{fill:none;stroke-width:2} .grid{stroke-width:1}",
            f"    {light}",
            "    @media (prefers-color-scheme: dark) {",
            "      .page{fill:#0f172a} text{fill:#e2e8f0} .quiet{fill:#94a3b8} .grid{stroke:#334155}",
            f"      {dark}",
            "    }",
            "  </style>",
        ]
    )


def _short(size: int) -> str:
    for unit, name in ((1_000_000, " M"), (1_000, " k")):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((power * step for step in (1, 2, 5) if power * step >= value), power * 10)
