"""The fields and conditions that one look writes into the status of a TaskQueue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..autoscaler import FleetSample, QueueTerms, ScalingDecision
from ..resource.taskqueue import TaskQueueResource
from ..scaling.sampling import Reading
from .conditions import Condition

# Fields that change with every task. `queues` includes the ages and rates.
_FIGURES = frozenset({"queues", "totalBacklog", "totalInFlight", "oldestAgeSeconds"})

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
        fields["totalBacklog"] = sum(one.ready for one in stats)
        fields["totalInFlight"] = sum(one.in_flight for one in stats)
        fields["totalDead"] = sum(one.dead for one in stats)
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
        told["arrivalPerSecond"] = f"{terms.arrivals_per_second:.1f}"
        told["processingSeconds"] = f"{terms.service_seconds:.3f}"
    return told


def verdicts(
    decision: ScalingDecision, sample: FleetSample, queue: TaskQueueResource, asked: int, pods: int, rollout: str = ""
) -> list[Condition]:
    """The conditions that follow from a look.

    `asked` is the requested number of replicas, `pods` the existing number; `rollout` describes one that is under way.
    """
    reachable = not sample.failure
    ready = sample.ready_replicas >= asked
    mode = queue.spec.autoscaler.mode
    paused = (
        decision.reason in {"Paused", "Suspended"}
        or sample.overrides.paused_scale_in
        or sample.overrides.paused_scale_out
    )
    if not reachable:
        redis = Condition("RedisReachable", False, "CannotReadQueues", sample.failure)
        scaling = Condition("ScalingActive", False, "FailedGetQueueMetrics", sample.failure)
    else:
        redis = Condition("RedisReachable", True, "Answers", "the queues were read")
        scaling = Condition(
            "ScalingActive",
            mode == "Managed" and not paused,
            "Paused" if paused else mode,
            f"autoscaler.mode is {mode}",
        )
    progressing = asked != pods or not ready or bool(rollout)
    return [
        Condition("Ready", ready and reachable, *_readiness(ready, reachable, sample, asked)),
        Condition(
            "Progressing",
            progressing,
            "RollingOut" if rollout else "Scaling" if progressing else "Settled",
            rollout or (f"{asked} replicas are asked for" if progressing else ""),
        ),
        redis,
        scaling,
        Condition(
            "ScalingLimited", bool(decision.limited_by), decision.limited_by or "NotLimited", decision.limit_message
        ),
        Condition("Paused", paused, "Annotation" if paused and not queue.spec.suspend else _suspended(queue), ""),
        Condition("Fallback", decision.fallback, "ReadsFailed" if decision.fallback else "NotNeeded", ""),
    ]


def _readiness(ready: bool, reachable: bool, sample: FleetSample, asked: int) -> tuple[str, str]:
    if not reachable:
        return "RedisUnreachable", sample.failure
    if not ready:
        return "WorkersNotReady", f"workers are starting; {asked} are asked for"
    return "WorkersReady", "every worker that is asked for is ready"


def _suspended(queue: TaskQueueResource) -> str:
    return "Suspended" if queue.spec.suspend else "NotPaused"
