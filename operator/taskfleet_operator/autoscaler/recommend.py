"""The recommendation: how many replicas the work needs, before any limit applies.

    slots  = Σ_q λS/u + (B + due(D))·S/D
    wanted = ceil(slots / slots per replica)

The first part keeps up with arrivals, the second drains the backlog within D. With the service rate set to λ + B/D and
replicas that take L to start, the backlog follows Ḃ = -B(t - L)/D, which does not oscillate while L/D ≤ 1/e. So D
is the target, or e·L where that is longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from ..resource.autoscaler_spec import AutoscalerSpec
from .history import STABLE_WINDOW_SECONDS, ScalingState
from .rates import arrivals_per_second, is_history
from .sample import FleetSample, QueueSample

DEFAULT_START_SECONDS = 10.0
"""The start latency until one was measured: from a pod's creation to its worker's registration."""

_ROUNDING = 1e-9
"""Ceilings ignore this much: 8 slots of 8 are one replica in spite of binary fractions."""


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """The formula's terms for one queue. `replicas_by_backlog` replaces the slots while there is no history."""

    name: str
    arrivals_per_second: float
    panic_arrivals_per_second: float
    service_seconds: float
    drain_seconds: float
    waiting: int
    steady_slots: float
    panic_steady_slots: float
    drain_slots: float
    replicas_by_backlog: float


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

    @property
    def steady_slots(self) -> float:
        return sum(terms.steady_slots for terms in self.queues)

    @property
    def drain_slots(self) -> float:
        return sum(terms.drain_slots for terms in self.queues)


def start_seconds(start_latency_seconds: float | None, spec: AutoscalerSpec) -> float:
    """L: the time until a replica works that is needed now, the wait for the next poll included. Seconds."""
    latency = DEFAULT_START_SECONDS if start_latency_seconds is None else start_latency_seconds
    return latency + spec.poll_interval_seconds


def drain_seconds(queue_target: float | None, start: float, spec: AutoscalerSpec) -> float:
    """D: the time in which a queue is drained. It is never so short that the loop would overshoot. Seconds."""
    return max(queue_target or float(spec.target.drain_seconds), math.e * start)


def horizons(start_latency_seconds: float | None, spec: AutoscalerSpec) -> tuple[float, float]:
    """How far to look ahead for due tasks, in seconds: for a start from zero, and for the drain term. (0, 0): not."""
    if spec.prewarm.mode == "Disabled":
        return 0.0, 0.0
    start = start_seconds(start_latency_seconds, spec)
    return start, max(start, float(spec.prewarm.horizon_seconds))


def terms_of(queue: QueueSample, sample: FleetSample, state: ScalingState, spec: AutoscalerSpec) -> QueueTerms:
    """The terms of one queue, from a state that has recorded this sample."""
    points = state.points(queue.name)
    service = points[-1].service_seconds
    prior = float(spec.target.processing_time_seconds)
    utilisation = spec.target.utilization_percent / 100
    drain = drain_seconds(queue.target_latency_seconds, start_seconds(sample.start_latency_seconds, spec), spec)
    steady = arrivals_per_second(points, STABLE_WINDOW_SECONDS)
    panic = arrivals_per_second(points, float(spec.panic.window_seconds))
    waiting = queue.backlog + (queue.due if spec.prewarm.mode == "Enabled" else 0)
    known = is_history(queue, prior)
    return QueueTerms(
        name=queue.name,
        arrivals_per_second=steady,
        panic_arrivals_per_second=panic,
        service_seconds=service,
        drain_seconds=drain,
        waiting=waiting,
        steady_slots=steady * service / utilisation if known else 0.0,
        panic_steady_slots=panic * service / utilisation if known else 0.0,
        drain_slots=waiting * service / drain if known else 0.0,
        replicas_by_backlog=0.0 if known else waiting / spec.target.backlog_per_replica,
    )


def drain_time(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec) -> Wanted:
    """`policy: DrainTime`. Queues without a history count by KEDA's rule, ready tasks per replica."""
    queues = tuple(terms_of(queue, sample, state, spec) for queue in sample.queues)
    per_replica = max(1, sample.slots_per_replica)
    steady = sum(terms.steady_slots for terms in queues)
    drain = sum(terms.drain_slots for terms in queues)
    rush = sum(terms.panic_steady_slots for terms in queues)
    by_backlog = sum(terms.replicas_by_backlog for terms in queues)
    exact = (steady + drain) / per_replica + by_backlog
    replicas = _ceil(exact)
    waiting = sum(terms.waiting for terms in queues if terms.replicas_by_backlog)
    by_slots = f"slots = {steady + drain:.1f} (steady {steady:.1f} + drain {drain:.1f}) / {per_replica}"
    by_ready = f"{waiting} waiting / {spec.target.backlog_per_replica} per replica"
    if not by_backlog:
        reason, formula = "DrainTime", by_slots
    elif steady + drain:
        reason, formula = "DrainTime", f"{by_slots} + {by_ready} (no history)"
    else:
        reason, formula = "BacklogPerReplica", f"no history yet: {by_ready}"
    return Wanted(
        exact=exact,
        replicas=replicas,
        panic_replicas=_ceil((rush + drain) / per_replica + by_backlog),
        reason=reason,
        message=f"{formula} → {replicas}",
        queues=queues,
    )


def threshold(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec) -> Wanted:
    """`policy: Threshold`: ready tasks per worker, plus or minus a count after so many equal signals in a row."""
    rule = spec.threshold
    current = sample.current_replicas
    per_worker = Decimal(sample.backlog) / max(1, current)
    direction = (per_worker > rule.scale_up_threshold) - (per_worker < rule.scale_down_threshold)
    # A count that has changed answers the signals so far; the next step wants new ones.
    before = state.signals if current == state.last_current else 0
    in_a_row = abs(before) + 1 if before * direction > 0 else 1
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
    )


def _ceil(value: float) -> int:
    return max(0, math.ceil(value - _ROUNDING))
