"""Tolerance and chance: the number stays, or moves less far, where a difference is small or explained by chance.

A fleet that follows chance in one direction follows it back in a moment. Tasks that arrive at random times need more
slots at one time and fewer at another, by a standard deviation that follows from the load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..resource.autoscaler_spec import AutoscalerSpec
from .recommend import Wanted
from .sample import FleetSample

_BY_CHANCE = 4.5
"""A difference of so many standard deviations or fewer may be chance."""

_BY_CHANCE_IN_A_WINDOW = 3.0
"""The same where the down window sees several independent moments, of which the highest counts."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Settled:
    """The number after this step, and the words that replace those of the formula, "" when the formula stands."""

    replicas: int
    message: str = ""
    stays: bool = False


def settle(sample: FleetSample, wanted: Wanted, replicas: int, formula: str, spec: AutoscalerSpec) -> Settled:
    """Move from the current number to `replicas` only as far as the difference is more than tolerance and chance.

    Down, the headroom needs no replica of its own: the fewest replicas remain that the tolerance would leave alone, and
    into which a load that is higher by chance fits with all slots in use.

    Up, the number stays while the load fits with all slots in use, and what waits starts soon. It may also be higher by
    one standard deviation then: the waiting takes it up, and when it lasts, tasks no longer start soon. While the
    difference may be tolerance and chance together, the number rises no further than the load itself.
    """
    current, exact = sample.current_replicas, wanted.exact
    if spec.policy == "Threshold" or current == 0:
        return Settled(replicas)  # the distance of Threshold's two thresholds is its tolerance
    slots, utilisation = max(1, sample.slots_per_replica), spec.target.utilization_percent / 100
    up, down = spec.behavior.scale_up.tolerance, spec.behavior.scale_down.tolerance
    lasting = wanted.chance_seconds > spec.behavior.scale_down.stabilization_window_seconds
    deviation = wanted.chance_slots / slots
    lower = deviation * (_BY_CHANCE if lasting else _BY_CHANCE_IN_A_WINDOW)
    queued = 1 + wanted.queued_share if lasting else 1.0
    kept = min(current, _ceil(max(exact, (exact + lower) / queued) * utilisation))
    enough = max(kept, _ceil(exact / (1 + float(up))))
    formula = f"{formula} = {exact:.2f}"
    message = ""
    if enough < replicas <= current:
        replicas, message = enough, f"{formula}, within {up} of {enough} → {enough}"
    if replicas == current:
        return Settled(current)
    if replicas < kept:
        message = f"{formula}, off by up to {lower:.2f} by chance"
        if kept == current:
            return Settled(current, message, stays=True)
        replicas, message = kept, f"{message} → {kept}"
    elif replicas > current and exact <= current * (1 + float(up)) + deviation * _BY_CHANCE and not wanted.is_late:
        message = f"{formula}, off by up to {deviation * _BY_CHANCE:.2f} by chance"
        soon = all(terms.waits_briefly for terms in wanted.queues)
        load = (exact - wanted.drain_slots / slots if soon else exact) * utilisation
        calm = soon or (sample.has_free_slots and not sample.backlog)
        room = deviation if soon else 0.0
        if calm and load <= current * (1 + float(up)) + room + _ROUNDING:
            return Settled(current, message, stays=True)
        replicas = max(current + 1, min(replicas, _ceil(exact * utilisation)))
        message = f"{message} → {replicas}" if replicas < wanted.replicas else ""
    tolerance = up if replicas > current else down
    if abs(exact / current - 1) <= float(tolerance):
        return Settled(current, f"{formula}, within {tolerance} of {current}", stays=True)
    return Settled(replicas, message)


def _ceil(value: float) -> int:
    return math.ceil(value - _ROUNDING)
