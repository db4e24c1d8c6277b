"""The recommendation: how many replicas the work needs, before any limit applies.

wanted = ceil(Σ slots of the queues / slots per replica)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from ..resource.autoscaler_spec import AutoscalerSpec
from .history import ScalingState, is_another_poll
from .queue_terms import PATIENCE, QueueTerms, terms_of
from .sample import FleetSample

_ROUNDING = 1e-9
"""Ceilings ignore this much: 8 slots of 8 are one replica in spite of binary fractions."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recommended number of replicas, unrounded and rounded up, with its reason."""

    exact: float
    replicas: int
    panic_replicas: int
    reason: str
    message: str
    queues: tuple[QueueTerms, ...]
    signals: int = 0
    signalled: bool = False
    is_guess: bool = False

    @property
    def steady_slots(self) -> float:
        return sum(terms.steady_slots for terms in self.queues)

    @property
    def drain_slots(self) -> float:
        return sum(terms.drain_slots for terms in self.queues)

    @property
    def chance_slots(self) -> float:
        return math.sqrt(sum(terms.chance_slots**2 for terms in self.queues))

    @property
    def chance_seconds(self) -> float:
        return max((terms.chance_seconds for terms in self.queues), default=0.0)

    @property
    def queued_share(self) -> float:
        """By which part of the slots a load may be higher by chance and only wait for a part of D, at most half."""
        shares = (PATIENCE * terms.drain_seconds / max(terms.chance_seconds, 1e-9) for terms in self.queues)
        return min([0.5, *shares])

    @property
    def is_late(self) -> bool:
        """Whether tasks would wait too long."""
        return any(terms.late_slots for terms in self.queues)

    @property
    def kept_slots(self) -> float:
        """The slots below which tasks that wait now would wait too long."""
        return sum(terms.kept_slots for terms in self.queues)

    @property
    def slots(self) -> float:
        return sum(terms.slots for terms in self.queues)


def drain_time(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec) -> Wanted:
    """`policy: DrainTime`. Queues without a history count by KEDA's rule, ready tasks per replica."""
    queues = tuple(terms_of(queue, sample, state, spec) for queue in sample.queues)
    per_replica = max(1, sample.slots_per_replica)
    new = [terms for terms in queues if terms.replicas_by_backlog]
    slots = sum(terms.slots for terms in queues)
    exact = slots / per_replica
    rush = sum(terms.panic_slots for terms in queues) / per_replica
    reason, formula = "DrainTime", _formula(queues, per_replica)
    if new:
        # What runs keeps its slots, and the tasks that wait and may start get at most one each.
        waiting = sum(terms.waiting for terms in new)
        running = sum(terms.running for terms in new) / per_replica
        more = running + sum(min(terms.replicas_by_backlog, terms.startable / per_replica) for terms in new)
        late = sum(terms.slots for terms in new) / per_replica
        others = exact - late
        exact = others + max(more, late)
        by_ready = f"{waiting} waiting / {spec.target.backlog_per_replica} per replica"
        if running:
            by_ready = f"{sum(terms.running for terms in new)} running / {per_replica} + {by_ready}"
        if others:
            formula = f"{formula} + {by_ready} (no history)"
        else:
            reason, formula = "BacklogPerReplica", f"no history yet: {by_ready}"
            if late > more:
                formula += f", {late * per_replica:.1f} slots for tasks that would wait too long"
            formula += _bounds(queues)
    replicas = _ceil(exact)
    return Wanted(
        exact=exact,
        replicas=replicas,
        panic_replicas=_ceil(rush),
        reason=reason,
        message=f"{formula} → {replicas}",
        queues=queues,
        is_guess=bool(new),
    )


def _formula(queues: tuple[QueueTerms, ...], per_replica: int) -> str:
    steady, drain = sum(terms.steady_slots for terms in queues), sum(terms.drain_slots for terms in queues)
    slots = sum(terms.slots for terms in queues)
    parts = f"steady {steady:.1f} + drain {drain:.1f}"
    if any(terms.late_slots and terms.late_slots >= terms.steady_slots + terms.drain_slots for terms in queues):
        parts += f", {sum(terms.late_slots for terms in queues):.1f} for tasks that would wait too long"
    return f"slots = {slots:.1f} ({parts}{_bounds(queues)}) / {per_replica}"


def _bounds(queues: tuple[QueueTerms, ...]) -> str:
    bounds = [f"{terms.name}: at most {terms.bound}" for terms in queues if terms.bound]
    return f"; {bounds[0]}" + (f" and {len(bounds) - 1} more" if len(bounds) > 1 else "") if bounds else ""


def threshold(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> Wanted:
    """`policy: Threshold`: ready tasks per worker, plus or minus a count after so many equal signals in a row.

    There is at most one signal in a poll interval.
    """
    rule = spec.threshold
    current = sample.current_replicas
    per_worker = Decimal(sample.backlog) / max(1, current)
    direction = (per_worker > rule.scale_up_threshold) - (per_worker < rule.scale_down_threshold)
    # A count that has changed answers the signals so far; the next step wants new ones.
    before = state.signals if current == state.last_current else 0
    signalled = direction != 0 and is_another_poll(state.signalled_at, now, spec.poll_interval_seconds)
    in_a_row = (abs(before) if before * direction > 0 else 0) + signalled
    signals = direction * min(in_a_row, rule.consecutive_signals)
    enough = abs(signals) == rule.consecutive_signals
    step = (rule.scale_up_count if direction > 0 else -rule.scale_down_count) if direction and enough else 0
    replicas = max(0, current + step)
    compared = (
        f"above {rule.scale_up_threshold}"
        if direction > 0
        else f"below {rule.scale_down_threshold}"
        if direction < 0
        else f"between {rule.scale_down_threshold} and {rule.scale_up_threshold}"
    )
    return Wanted(
        exact=float(replicas),
        replicas=replicas,
        panic_replicas=replicas,
        reason="Threshold",
        message=(
            f"{sample.backlog} ready / {max(1, current)} workers = {per_worker:.1f}, {compared}"
            f" ({abs(signals)} of {rule.consecutive_signals} signals) → {replicas}"
            if direction
            else f"{sample.backlog} ready / {max(1, current)} workers = {per_worker:.1f}, {compared} → {replicas}"
        ),
        queues=tuple(terms_of(queue, sample, state, spec) for queue in sample.queues),
        signals=signals,
        signalled=signalled,
    )


def _ceil(value: float) -> int:
    return max(0, math.ceil(value - _ROUNDING))
