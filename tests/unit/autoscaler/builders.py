"""Samples and states from the fields that matter to a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taskfleet_operator.autoscaler import FleetSample, QueueSample, ScalingDecision, ScalingState, decide
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec

NOW = 10_000.0


def spec(**fields: Any) -> AutoscalerSpec:
    """A spec from snake_case or camelCase fields, with defaults for all others."""
    return AutoscalerSpec.model_validate(fields)


STEADY = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 1000, "periodSeconds": 1}]},
    "scaleDown": {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
    },
}
"""A behavior that holds nothing back, to see the steps before it."""


def queue(backlog: int = 0, **fields: Any) -> QueueSample:
    defaults: dict[str, Any] = {"runnable_total": 1000, "attempts_total": 1000, "busy_ms_total": 500_000}
    return QueueSample(name=fields.pop("name", "default"), backlog=backlog, **{**defaults, **fields})


def sample(*queues: QueueSample, current: int = 0, **fields: Any) -> FleetSample:
    defaults: dict[str, Any] = {
        "workers_registered": current,
        "busy_workers": 0,
        "ready_replicas": current,
        "slots_per_replica": 8,
        "start_latency_seconds": 5.0,
    }
    return FleetSample(queues=queues or (queue(),), current_replicas=current, **{**defaults, **fields})


def fresh(current: int, *, now: float = NOW, last_active: float | None = None) -> ScalingState:
    """A state that started long ago and has recommended no change since."""
    return replace(
        ScalingState.initial(current, now - 3600, last_active=now - 3600),
        last_active=now if last_active is None else last_active,
    )


def first(sample_: FleetSample, spec_: AutoscalerSpec, **fields: Any) -> ScalingDecision:
    return decide(sample_, fresh(sample_.current_replicas, **fields), spec_, NOW)
