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
_OPTIONAL = _LIMITS | {"start_latency_seconds"}


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
        *(name for name in _FLEET if not _is_good(name, getattr(sample, name))),
        *(
            f"{name} of {queue.name}"
            for queue in sample.queues
            for name in _QUEUE
            if not _is_good(name, getattr(queue, name))
        ),
    ]
    if not odd and not _has_fractions(sample):
        return sample, ""
    mended = replace(
        sample,
        queues=tuple(_mended(queue, state) for queue in sample.queues),
        **{name: _good(name, getattr(sample, name)) for name in _FLEET if name not in _OPTIONAL},
        start_latency_seconds=_good_or_none("start_latency_seconds", sample.start_latency_seconds),
    )
    return mended, f"{odd[0]} is no count and no time" if odd else ""


def _has_fractions(sample: FleetSample) -> bool:
    counts = (
        (one, name)
        for one, names in ((sample, _FLEET), *((queue, _QUEUE) for queue in sample.queues))
        for name in names
    )
    return any(isinstance(getattr(one, name), float) for one, name in counts if name not in _FRACTIONS)


_FRACTIONS = frozenset({"oldest_age_seconds", "oldest_run_seconds", "start_latency_seconds", "share"}) | {
    "target_latency_seconds",
    "rate_per_second",
    "rate_per_second_per_key",
}
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
            values[name] = _good_or_none(name, value)
        else:
            values[name] = _whole(name, value) if _is_good(name, value) else kept.get(name, 0)
    return replace(queue, **values)


def _is_good(name: str, value: Any) -> bool:
    if value is None:
        return name in _OPTIONAL
    return isinstance(value, (int, float)) and 0 <= value <= LARGEST  # false for NaN


def _whole(name: str, value: Any) -> Any:
    """A count without its fraction: it becomes a number of replicas."""
    return value if name in _FRACTIONS or not isinstance(value, float) else int(value)


def _good(name: str, value: Any) -> Any:
    return _whole(name, value) if _is_good(name, value) else 0


def _good_or_none(name: str, value: Any) -> Any:
    return _whole(name, value) if value is not None and _is_good(name, value) and value > 0 else None
