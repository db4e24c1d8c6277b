"""Decisions without a sample: fail static, then KEDA's `fallback`."""

from __future__ import annotations

from ..resource.autoscaler_spec import AutoscalerSpec


def replicas(current: int, spec: AutoscalerSpec) -> int:
    """How many replicas to run after `failureThreshold` failed reads in a row.

    The limits hold, and what runs never goes to zero: a queue that cannot be read is not known to be idle.
    """
    fallback = spec.fallback
    if fallback.behavior == "CurrentReplicas":
        return current
    if fallback.behavior == "Static":
        wanted = fallback.replicas
    elif fallback.behavior == "CurrentReplicasIfHigher":
        wanted = max(current, fallback.replicas)
    else:
        wanted = min(current, fallback.replicas)
    return min(max(wanted, spec.min_replicas, 1 if current else 0), spec.max_replicas)
