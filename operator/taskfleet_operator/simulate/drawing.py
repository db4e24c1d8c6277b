"""Curves as SVG, written by hand: no library is needed, and a page may be light or dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from .simulation import CurvePoint, Measured

_WIDTH, _LEFT, _RIGHT, _PANEL, _GAP, _TOP = 920, 56, 150, 110, 26, 48
_COLOURS = ("a", "f", "b", "c", "d", "e")

_STYLE = """
  <style>
    svg { background: #ffffff } text { fill: #0f172a } .axis { stroke: #94a3b8 } .quiet { fill: #64748b }
    .a { stroke: #2563eb } .b { stroke: #16a34a } .c { stroke: #dc2626 } .d { stroke: #d97706 } .e { stroke: #7c3aed }
    .f { stroke: #0891b2 }
    path { fill: none; stroke-width: 1.6 } path.a { stroke-width: 2.6 }
    @media (prefers-color-scheme: dark) {
      svg { background: #0f172a } text { fill: #e2e8f0 } .axis { stroke: #475569 } .quiet { fill: #94a3b8 }
      .a { stroke: #60a5fa } .b { stroke: #4ade80 } .c { stroke: #f87171 } .d { stroke: #fbbf24 } .e { stroke: #c4b5fd }
      .f { stroke: #67e8f9 }
    }
  </style>"""

_PANELS: tuple[tuple[str, Callable[[CurvePoint], float]], ...] = (
    ("ready tasks", lambda point: point.backlog),
    ("age of the oldest, s", lambda point: point.age),
    ("replicas", lambda point: point.replicas),
)


def drawing(title: str, measured: Sequence[Measured], seconds: float) -> str:
    """An SVG with three panels over one time axis: backlog, age of the oldest and replicas of each autoscaler."""
    height = _TOP + len(_PANELS) * (_PANEL + _GAP) + 16
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    label = f'role="img" aria-label="{escape(title, quote=True)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {font} {label}>{_STYLE}',
        f'  <text x="{_LEFT}" y="24" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, (label, figure) in enumerate(_PANELS):
        parts += _panel(label, figure, measured, seconds, _TOP + number * (_PANEL + _GAP))
    bottom = _TOP + len(_PANELS) * (_PANEL + _GAP) - _GAP
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        label = f"{seconds * share / 60:.0f} min"
        parts.append(f'  <text class="quiet" x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    for number, one in enumerate(measured):
        x, y = _WIDTH - _RIGHT + 16, _TOP + 14 + 22 * number
        parts.append(f'  <path class="{_COLOURS[number]}" d="M{x} {y - 4}h18"/>')
        parts.append(f'  <text x="{x + 24}" y="{y}">{escape(one.autoscaler)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    label: str, figure: Callable[[CurvePoint], float], measured: Sequence[Measured], seconds: float, top: int
) -> list[str]:
    highest = _round_up(max((figure(point) for one in measured for point in one.curve), default=0.0))
    bottom, right = top + _PANEL, _WIDTH - _RIGHT
    parts = [
        f'  <path class="axis" d="M{_LEFT} {top}V{bottom}H{right}"/>',
        f'  <text class="quiet" x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{highest:g}</text>',
        f'  <text class="quiet" x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'  <text class="quiet" x="{_LEFT + 6}" y="{top + 10}">{label}</text>',
    ]
    # Ours is drawn last, on top of the others.
    for number in reversed(range(len(measured))):
        points = " ".join(
            f"{_LEFT + point.at / seconds * (right - _LEFT):.1f},{bottom - figure(point) / highest * _PANEL:.1f}"
            for point in measured[number].curve
        )
        parts.append(f'  <path class="{_COLOURS[number]}" d="M{points}"/>')
    return parts


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
