"""Samples that cannot be true. They are held: nothing is taken away on their word for one down window."""

from __future__ import annotations

from .rates import went_backwards
from .sample import FleetSample
from .state import ScalingState


def cause(sample: FleetSample, state: ScalingState) -> str:
    """Why the sample is suspect, "" when it is not."""
    if went_backwards(sample, state):
        return "a queue's counters went backwards: Redis failed over to an older copy, or was emptied"
    if is_silent(sample):
        return f"{sample.ready_replicas} replicas are ready and none sends a heartbeat"
    return ""


def is_silent(sample: FleetSample) -> bool:
    """Ready pods without a single heartbeat: either the registry is lost, or we look at another Redis than they."""
    return sample.workers_registered == 0 and sample.ready_replicas > 0
