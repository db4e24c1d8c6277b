"""The conditions that follow from one look at a TaskQueue. docs/how-to/troubleshoot-scaling.md explains each reason."""

from __future__ import annotations

from dataclasses import dataclass

from ...autoscaler import FleetSample, ScalingDecision
from ...resource.taskqueue import TaskQueueResource
from .conditions import Condition


@dataclass(frozen=True, slots=True)
class Facts:
    """What the conditions are made from.

    `failure` is why Redis counts as unreachable, "" when it does not; while it is `flapping`, the last look may have
    been good. `asked` is the requested number of replicas, `pods` the existing number. `notice` is about Redis,
    `trouble` says why pods do not start (reason and message), `shared` names the TaskQueues that serve the same queues,
    `rollout` describes a rollout, `refused` says why the number could not be set; each is empty when there is nothing
    to say. `dead` counts dead letters, None while unknown.
    """

    decision: ScalingDecision
    sample: FleetSample
    queue: TaskQueueResource
    asked: int
    pods: int
    failure: str = ""
    flapping: bool = False
    notice: str = ""
    trouble: tuple[str, str] | None = None
    shared: str = ""
    rollout: str = ""
    dead: int | None = None
    refused: str = ""


def verdicts(facts: Facts) -> list[Condition]:
    """The conditions. Those about a rare state are not written before it has occurred once."""
    decision = facts.decision
    paused = _paused(facts)
    found = [
        _ready(facts),
        _progressing(facts),
        _reachable(facts),
        _active(facts),
        Condition(
            "ScalingLimited",
            bool(decision.limited_by),
            decision.limited_by or "NotLimited",
            decision.limit_message
            or (f"{decision.limited_by} gives {decision.desired}" if decision.limited_by else ""),
        ),
        Condition("Paused", bool(paused), paused or "NotPaused", _PAUSES.get(paused, "")),
        Condition(
            "Fallback",
            decision.fallback,
            "ReadsFailed" if decision.fallback else "NotNeeded",
            # Without the count of failures: each would be a write, for as long as Redis is away.
            f"{facts.sample.failure}; {facts.queue.spec.autoscaler.fallback.behavior} gives {decision.desired}"
            if decision.fallback
            else "",
        ),
        Condition(
            "QueueShared", bool(facts.shared), "Shared" if facts.shared else "NotShared", facts.shared, rare=True
        ),
    ]
    if facts.dead is not None:
        found.append(_dead_letters(facts.dead))
    return found


_ADVICE = "; start it, or set REDIS_URL"  # of the library, to a producer
_PAUSES = {
    "Suspended": "spec.suspend is true",
    "PausedAtReplicas": "an annotation gives the number of replicas",
    "PausedByAnnotation": "an annotation keeps the number of replicas",
    "ScaleInPaused": "an annotation keeps replicas from going",
    "ScaleOutPaused": "an annotation keeps replicas from coming",
}
_WHOLLY_PAUSED = frozenset({"Suspended", "PausedAtReplicas", "PausedByAnnotation"})


def _paused(facts: Facts) -> str:
    overrides = facts.sample.overrides
    if overrides.suspend:
        return "Suspended"
    if facts.queue.spec.autoscaler.mode == "Disabled":
        return ""  # spec.replicas counts, whatever the annotations say
    if overrides.paused_replicas is not None:
        return "PausedAtReplicas"
    if overrides.paused or (overrides.paused_scale_in and overrides.paused_scale_out):
        return "PausedByAnnotation"
    if overrides.paused_scale_in:
        return "ScaleInPaused"
    return "ScaleOutPaused" if overrides.paused_scale_out else ""


def _ready(facts: Facts) -> Condition:
    sample, asked = facts.sample, facts.asked
    if facts.failure:
        return Condition("Ready", False, "RedisUnreachable", _failure(facts))
    if sample.ready_replicas >= asked:
        if asked:
            return Condition("Ready", True, "WorkersReady", "every worker that is asked for is ready")
        return Condition("Ready", True, "ScaledToZero", "no worker is asked for")
    starting = f"{sample.ready_replicas} of {asked} workers are ready"
    if facts.trouble is not None:
        reason, message = facts.trouble
        return Condition("Ready", False, reason, f"{starting}: {message}")
    return Condition("Ready", False, "WorkersNotReady", f"{starting}; the others are starting")


def _progressing(facts: Facts) -> Condition:
    if facts.rollout:
        return Condition("Progressing", True, "RollingOut", facts.rollout)
    if facts.asked != facts.pods or facts.sample.ready_replicas < facts.asked:
        return Condition("Progressing", True, "Scaling", f"{facts.asked} replicas are asked for, {facts.pods} exist")
    decision = facts.decision
    if decision.desired < facts.asked and not decision.advice:
        going, busy = facts.asked - decision.desired, facts.sample.busy_workers
        waits = f"; {busy} of the workers run tasks" if busy else ""
        message = f"{going} of {facts.asked} pods go when they are empty{waits}"
        return Condition("Progressing", True, "Draining", message)
    return Condition("Progressing", False, "Settled", "")


def _reachable(facts: Facts) -> Condition:
    if facts.failure:
        return Condition("RedisReachable", False, "Flapping" if facts.flapping else "CannotReadQueues", _failure(facts))
    if facts.notice:
        return Condition("RedisReachable", True, "PollsOnly", facts.notice)
    return Condition("RedisReachable", True, "Answers", "the queues were read")


def _active(facts: Facts) -> Condition:
    mode, paused = facts.queue.spec.autoscaler.mode, _paused(facts)
    if facts.failure:
        return Condition("ScalingActive", False, "FailedGetQueueMetrics", _failure(facts))
    if facts.refused:
        return Condition("ScalingActive", False, "FailedUpdateScale", facts.refused)
    if paused in _WHOLLY_PAUSED:
        return Condition("ScalingActive", False, paused, _PAUSES[paused])
    return Condition("ScalingActive", mode == "Managed", mode, f"autoscaler.mode is {mode}")


def _failure(facts: Facts) -> str:
    failure = facts.failure.replace(_ADVICE, "; start it, or change spec.redis")
    return f"it answers only now and then; the last error: {failure}" if facts.flapping else failure


def _dead_letters(dead: int) -> Condition:
    if not dead:
        return Condition("DeadLetters", False, "NoDeadLetters", "", rare=True)
    message = f"{dead} tasks have failed for good; `taskfleet dead list QUEUE` shows them"
    return Condition("DeadLetters", True, "TasksFailedForGood", message, rare=True)
