"""KEDA's `fallback`: the number of replicas while the queues cannot be read."""

from __future__ import annotations

from ..resource.autoscaler_spec import AutoscalerSpec


def replicas(current: int, spec: AutoscalerSpec) -> int:
    """The number of replicas after `failureThreshold` failed reads in a row.

    `minReplicas` and `maxReplicas` hold. A running fleet never goes to zero: a queue that cannot be read may have work.
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
