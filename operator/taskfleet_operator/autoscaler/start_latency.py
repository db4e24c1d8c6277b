"""How long a worker takes from its creation to its registration, as seen lately."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_KEPT = 20


@dataclass(frozen=True, slots=True)
class StartLatencies:
    """Start latencies of the last 20 workers that registered, in seconds. Immutable; the caller keeps it.

    `registered` are the workers that were seen registered before, None before the first look. The workers of the first
    look may have registered at any time, so they tell nothing.
    """

    seconds: tuple[float, ...] = ()
    registered: frozenset[str] | None = None

    def with_look(self, ages: Mapping[str, float], registered: frozenset[str]) -> StartLatencies:
        """With one more look: `ages` of all workers in seconds, and the names of those that are registered."""
        before = registered if self.registered is None else self.registered
        if before == self.registered and registered <= before <= ages.keys():
            return self  # no news, as at most looks
        fresh = [ages[name] for name in sorted(registered - before)]
        known = (before | registered) & ages.keys()  # a missed heartbeat is no second start
        return StartLatencies((*self.seconds, *fresh)[-_KEPT:], frozenset(known))

    @property
    def percentile_90(self) -> float | None:
        """The 90th percentile in seconds, None while no start was seen."""
        return percentile(self.seconds)


def percentile(seconds: Sequence[float], share: float = 0.9) -> float | None:
    """The smallest value that `share` of the values do not exceed; None of nothing."""
    if not seconds:
        return None
    return sorted(seconds)[max(0, math.ceil(share * len(seconds) - 1e-9) - 1)]
