"""HPA's stabilisation windows: earlier recommendations bound the number, in both directions."""

from __future__ import annotations

from collections.abc import Iterable

from ..resource.autoscaler_spec import BehaviorSpec
from .history import Recommendation


def stabilise(current: int, wanted: int, past: Iterable[Recommendation], behavior: BehaviorSpec, now: float) -> int:
    """Clamp `current` into [least wanted over the up window, most wanted over the down window].

    So the fleet grows only to a number that was wanted all through the up window, and shrinks only to a number that was
    enough all through the down window. `wanted` is the newest recommendation of both.
    """
    up_start = now - behavior.scale_up.stabilization_window_seconds
    down_start = now - behavior.scale_down.stabilization_window_seconds
    recent = list(past)
    least = min([wanted, *(entry.replicas for entry in recent if entry.at > up_start)])
    most = max([wanted, *(entry.replicas for entry in recent if entry.at > down_start and not entry.is_guess)])
    return min(max(current, least), most)


def remembered(
    past: Iterable[Recommendation], fresh: Recommendation, behavior: BehaviorSpec
) -> tuple[Recommendation, ...]:
    """The recommendations that a later decision may still need, this one included.

    Of equal neighbours only the first and the last are kept: the windows give the same result.
    """
    longest = max(behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds)
    kept = [entry for entry in past if entry.at > fresh.at - longest]
    if len(kept) >= 2 and _is_same(kept[-2], fresh) and _is_same(kept[-1], fresh):
        kept.pop()
    return (*kept, fresh)


def _is_same(one: Recommendation, other: Recommendation) -> bool:
    return (one.replicas, one.is_guess) == (other.replicas, other.is_guess)
