"""Samples that cannot be true. For one down window after such a sample, no replica is taken away."""

from __future__ import annotations

from .history import ScalingState
from .rates import went_backwards
from .sample import FleetSample


def cause(sample: FleetSample, state: ScalingState) -> str:
    """The reason for which the sample is suspect, "" when it is not."""
    if went_backwards(sample, state):
        return "a queue's counters went backwards: Redis failed over to an older copy, or was emptied"
    if is_silent(sample):
        return f"{sample.ready_replicas} replicas are ready and none sends a heartbeat"
    return ""


def is_silent(sample: FleetSample) -> bool:
    """Ready pods without a heartbeat: the heartbeats are lost, or the workers use another Redis than the operator."""
    return sample.workers_registered == 0 and sample.ready_replicas > 0
