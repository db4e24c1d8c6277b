"""The fields that one look writes into the status of a TaskQueue, and which of them may wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskfleet import foreign

from ...autoscaler import QueueTerms, ScalingDecision
from ...scaling.sampling import Reading

# Fields that change with every task or tick. `queues` includes the ages and rates.
_FIGURES = frozenset({"queues", "totalBacklog", "totalInFlight", "totalDead", "oldestAgeSeconds", "schedules"})
_MOST = 1e12

_FLICKERING = frozenset({"ScalingLimited"})  # of a trickle of tasks each one may be limited, and the next not


def weighty(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a status whose change is written at once. Figures, times, limits and wordings may wait."""
    kept = {name: value for name, value in status.items() if name not in _FIGURES}
    autoscaler = dict(status.get("autoscaler") or {})
    decided = (autoscaler.get("lastDecision") or {}).get("time")
    kept["autoscaler"] = {"lastScaleTime": autoscaler.get("lastScaleTime"), "decided": decided}
    kept["conditions"] = {
        condition.get("type"): {name: value for name, value in condition.items() if name != "message"}
        for condition in status.get("conditions") or ()
        if condition.get("type") not in _FLICKERING
    }
    return kept


def fields_of(
    decision: ScalingDecision,
    reading: Reading | None,
    queues: Sequence[str],
    *,
    replicas: int,
    ready: int,
    selector: str,
    autoscaler: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields of status. After a failed read the figures stay as they were.

    An idle TaskQueue gives the same fields at every look, so that no write is needed.
    """
    fields: dict[str, Any] = {
        "replicas": replicas,
        "readyReplicas": ready,
        "desiredReplicas": decision.desired,
        "selector": selector,
        "autoscaler": dict(autoscaler),
    }
    if reading is not None:
        terms = {one.name: one for one in decision.queues}
        fields["queues"] = [_queue(name, reading, terms.get(name)) for name in queues]
        stats = [reading.stats[name] for name in queues]
        fields["totalBacklog"] = _sum(one.ready for one in stats)
        fields["totalInFlight"] = _sum(one.in_flight for one in stats)
        fields["totalDead"] = _sum(one.dead for one in stats)
        fields["oldestAgeSeconds"] = int(max((one.oldest_age_seconds for one in stats), default=0))
    return fields


def _queue(name: str, reading: Reading, terms: QueueTerms | None) -> dict[str, Any]:
    stats = reading.stats[name]
    told: dict[str, Any] = {
        "name": name,
        "backlog": stats.ready,
        "inFlight": stats.in_flight,
        "delayed": stats.delayed,
        "dead": stats.dead,
        "oldestAgeSeconds": int(stats.oldest_age_seconds),
    }
    if terms is not None:
        told["arrivalPerSecond"] = _decimal(terms.arrivals_per_second, 1)
        told["processingSeconds"] = _decimal(terms.service_seconds, 3)
    return told


def _sum(counts: Iterable[int]) -> int:
    """A total that the API server can read: it has no larger integer than 2^63 - 1."""
    return min(foreign.LARGEST, sum(counts))


def _decimal(figure: float, digits: int) -> str:
    """A figure as the schema wants it: no infinity, and nothing that is no number."""
    return f"{min(figure, _MOST) if figure >= 0 else 0.0:.{digits}f}"
