"""Samples that cannot be true. For one down window after such a sample, no replica is taken away."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from .history import ScalingState
from .rates import went_backwards
from .sample import FleetSample, QueueSample

LARGEST = 2**53
"""No count of a queue is larger, and no time in seconds."""

_LIMITS = frozenset({"target_latency_seconds", "rate_per_second", "concurrency", "rate_per_second_per_key"}) | {
    "concurrency_per_key"
}


def cause(sample: FleetSample, state: ScalingState, odd: str) -> str:
    """The reason for which the sample is suspect, "" when it is not. `odd` names a figure that is no number."""
    if odd:
        return odd
    if went_backwards(sample, state):
        return "a queue's counters went backwards: Redis failed over to an older copy, or was emptied"
    if is_silent(sample):
        return f"{sample.ready_replicas} replicas are ready and none sends a heartbeat"
    return ""


def is_silent(sample: FleetSample) -> bool:
    """Ready pods without a heartbeat: the heartbeats are lost, or the workers use another Redis than the operator."""
    return sample.workers_registered == 0 and sample.ready_replicas > 0


def readable(sample: FleetSample, state: ScalingState) -> tuple[FleetSample, str]:
    """The sample with figures that the rules can count with, and the name of one that was no count and no time.

    A counter that is no number stays where it was; any other such figure counts as 0, a limit as none.
    """
    odd = [
        *(name for name in _FLEET if not _is_good(getattr(sample, name), optional=name == "start_latency_seconds")),
        *(
            f"{name} of {queue.name}"
            for queue in sample.queues
            for name in _QUEUE
            if not _is_good(getattr(queue, name), optional=name in _LIMITS)
        ),
    ]
    if not odd:
        return sample, ""
    mended = replace(
        sample,
        queues=tuple(_mended(queue, state) for queue in sample.queues),
        **{name: _good(getattr(sample, name)) for name in _FLEET if name != "start_latency_seconds"},
        start_latency_seconds=_good_or_none(sample.start_latency_seconds),
    )
    return mended, f"{odd[0]} is no count and no time"


_FLEET = tuple(field.name for field in fields(FleetSample) if field.name not in {"queues", "overrides", "failure"})
_QUEUE = tuple(field.name for field in fields(QueueSample) if field.name != "name")


def _mended(queue: QueueSample, state: ScalingState) -> QueueSample:
    points = state.points(queue.name)
    kept: dict[str, Any] = {"runnable_total": 0, "attempts_total": 0, "busy_ms_total": 0, "parked": 0}
    if points:
        last = points[-1]
        kept = {
            "runnable_total": last.runnable,
            "attempts_total": last.attempts,
            "busy_ms_total": math.ceil(last.busy_seconds * 1000),
            "parked": last.parked,
        }
    values: dict[str, Any] = {}
    for name in _QUEUE:
        value = getattr(queue, name)
        if name in _LIMITS:
            values[name] = _good_or_none(value)
        else:
            values[name] = value if _is_good(value) else kept.get(name, 0)
    return replace(queue, **values)


def _is_good(value: Any, *, optional: bool = False) -> bool:
    if value is None:
        return optional
    return isinstance(value, (int, float)) and 0 <= value <= LARGEST  # false for NaN


def _good(value: Any) -> Any:
    return value if _is_good(value) else 0


def _good_or_none(value: Any) -> Any:
    return value if value is not None and _is_good(value) and value > 0 else None
