"""Pictures that compare queues: one bar for each, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Figure, number
from bench.targets import OURS

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 460, 128, 72, 44, 22


@dataclass(frozen=True, slots=True)
class Bars:
    """A picture of one figure of every queue; the best is at the top."""

    name: str
    title: str
    scenario: str
    metric: str
    most_is_best: bool


BARS = (
    Bars("drain", "No-op tasks per second, one worker process", "drain", "tasks_per_second", most_is_best=True),
    Bars("latency", "From enqueue to the task when idle, p50, ms", "latency", "p50", most_is_best=False),
    Bars("result", "From enqueue to the result when idle, p50, ms", "result", "p50", most_is_best=False),
    Bars("bulk", "Tasks per second of a bulk enqueue", "enqueue_bulk", "tasks_per_second", most_is_best=True),
)


def pictures(figures: Sequence[Figure]) -> dict[str, str]:
    """File name → SVG, of the bars that these figures fill."""
    found: dict[str, str] = {}
    for bars in BARS:
        values = {f.peer: f.median for f in figures if (f.scenario, f.metric) == (bars.scenario, bars.metric)}
        if values:
            order = sorted(values.items(), key=lambda item: item[1], reverse=bars.most_is_best)
            found[f"{bars.name}.svg"] = _drawing(bars, order)
    return found


def _drawing(bars: Bars, values: Sequence[tuple[str, float]]) -> str:
    height = _TOP + _STEP * len(values) + 12
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" '
        f'font-size="11" role="img" aria-label="{escape(bars.title, quote=True)}">'
    )
    return "\n".join(
        [
            head,
            "  <style>",
            "    .page{fill:#ffffff} text{fill:#0f172a} .ours{fill:#2563eb} .other{fill:#94a3b8}",
            "    @media (prefers-color-scheme: dark) {",
            "      .page{fill:#0f172a} text{fill:#e2e8f0} .ours{fill:#60a5fa} .other{fill:#64748b}",
            "    }",
            "  </style>",
            f'  <rect width="{_WIDTH}" height="{height}" class="page"/>',
            f'  <text x="16" y="24" font-size="14" font-weight="600">{escape(bars.title)}</text>',
            *_lines(values),
            "</svg>",
            "",
        ]
    )


def _lines(values: Sequence[tuple[str, float]]) -> Iterator[str]:
    longest = max(value for _, value in values)
    for place, (peer, value) in enumerate(values):
        top = _TOP + _STEP * place
        width = value / longest * (_WIDTH - _LEFT - _RIGHT) if longest else 0.0
        kind = "ours" if peer == OURS else "other"
        yield f'  <text x="{_LEFT - 8}" y="{top + 12}" text-anchor="end">{escape(peer)}</text>'
        yield f'  <rect class="{kind}" x="{_LEFT}" y="{top}" width="{max(width, 1.0):.1f}" height="16" rx="2"/>'
        yield f'  <text x="{_LEFT + width + 6:.1f}" y="{top + 12}">{number(value)}</text>'
