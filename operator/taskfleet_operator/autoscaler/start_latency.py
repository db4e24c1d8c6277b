"""The start latency: how long recent workers took from their creation to their registration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_KEPT = 20


@dataclass(frozen=True, slots=True)
class StartLatencies:
    """Start latencies of the last 20 workers that registered, in seconds. Immutable; the caller keeps it.

    `registered` are the workers that were registered at the last look, None before the first. The workers of the first
    look may have registered at any time, so they give no latency.
    """

    seconds: tuple[float, ...] = ()
    registered: frozenset[str] | None = None

    def with_look(self, ages: Mapping[str, float], registered: frozenset[str]) -> StartLatencies:
        """A copy with one more look: `ages` of all workers in seconds, and the names of those that are registered."""
        before = registered if self.registered is None else self.registered
        if before == self.registered and registered <= before <= ages.keys():
            return self  # no change, as at most looks
        fresh = [ages[name] for name in sorted(registered - before)]
        known = (before | registered) & ages.keys()  # a missed heartbeat is no second start
        return StartLatencies((*self.seconds, *fresh)[-_KEPT:], frozenset(known))

    @property
    def percentile_90(self) -> float | None:
        """The 90th percentile in seconds, None while no start was seen."""
        return percentile(self.seconds)


def percentile(seconds: Sequence[float], share: float = 0.9) -> float | None:
    """The smallest value that `share` of the values do not exceed; None without values."""
    if not seconds:
        return None
    return sorted(seconds)[max(0, math.ceil(share * len(seconds) - 1e-9) - 1)]
