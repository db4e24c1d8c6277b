"""Panic: demand that the rate over a minute shows too late. Up at once, and not down before a quiet minute."""

from __future__ import annotations

from ..resource.autoscaler_spec import AutoscalerSpec
from .recommend import Wanted
from .sample import FleetSample


def cause(sample: FleetSample, wanted: Wanted, spec: AutoscalerSpec) -> str:
    """The reason for a panic in this sample, "" when there is none.

    Either the short window wants `thresholdPercent` of the ready replicas (Knative's rule), or a task has waited longer
    than its queue's target while every slot is busy. While slots are free and nothing waits there is no reason: two
    long tasks that arrive together are no flood.
    """
    if spec.panic.mode == "Disabled" or (sample.has_free_slots and not sample.backlog):
        return ""
    ready = max(1, sample.ready_replicas)
    if spec.policy == "DrainTime" and wanted.panic_replicas * 100 >= spec.panic.threshold_percent * ready:
        return (
            f"the last {spec.panic.window_seconds} s want {wanted.panic_replicas}, "
            f"{spec.panic.threshold_percent} % or more of {ready} ready"
        )
    if sample.has_free_slots:
        return ""
    for queue in sample.queues:
        target = queue.target_latency_seconds or float(spec.target.drain_seconds)
        if queue.backlog and queue.oldest_age_seconds >= target:
            return (
                f"the oldest task of {queue.name} waits {queue.oldest_age_seconds:.0f} s, its target is {target:.0f} s"
            )
    return ""
