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
    most = max([wanted, *(entry.replicas for entry in recent if entry.at > down_start)])
    return min(max(current, least), most)


def remembered(
    past: Iterable[Recommendation], wanted: int, behavior: BehaviorSpec, now: float
) -> tuple[Recommendation, ...]:
    """The recommendations that a later decision may still need, this one included.

    Of equal neighbours only the first and the last are kept: the windows give the same result.
    """
    longest = max(behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds)
    kept = [entry for entry in past if entry.at > now - longest]
    fresh = Recommendation(now, wanted)
    if len(kept) >= 2 and kept[-1].replicas == kept[-2].replicas == wanted:
        kept.pop()
    return (*kept, fresh)
