"""From runs to figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one peer in one scenario, over all its runs."""

    peer: str
    version: str
    scenario: str
    metric: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def as_json(self) -> dict[str, Any]:
        """The contract: peer, version, scenario, metric, unit, median, min, max, runs."""
        record = asdict(self)
        del record["runs"]
        return record | {
            "median": float(self.median),
            "min": float(min(self.runs)),
            "max": float(max(self.runs)),
            "runs": list(map(float, self.runs)),
        }

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Self:
        """The figure of such a record."""
        words = [str(record[name]) for name in ("peer", "version", "scenario", "metric", "unit")]
        return cls(*words, runs=tuple(map(float, record["runs"])))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of all do not exceed (nearest rank).

    No interpolation: the reported value was measured.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def number(value: float) -> str:
    """The number with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
