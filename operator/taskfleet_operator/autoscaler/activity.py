"""Scaling from and to zero: when an idle queue gets its first worker, and when the last ones may go."""

from __future__ import annotations

from ..resource.autoscaler_spec import AutoscalerSpec
from .history import STABLE_WINDOW_SECONDS, ScalingState
from .sample import FleetSample


def activation(sample: FleetSample, spec: AutoscalerSpec) -> str:
    """The reason for which a queue without workers gets one, "" when it gets none."""
    if sample.backlog > spec.activation.backlog:
        return f"{sample.backlog} ready"
    if sample.in_flight:
        # Their workers are gone. The tasks become ready again only when another worker recovers them.
        return f"{sample.in_flight} claimed by workers that are gone"
    if sample.due_within_start and spec.prewarm.mode == "Enabled":
        return f"{sample.due_within_start} due before a worker can start"
    return "activation is forced" if sample.overrides.force_activation else ""


def was_active(sample: FleetSample, state: ScalingState) -> bool:
    """Whether there is work, or was since the last sample: a task may arrive and end between two samples."""
    arrived = any(
        queue.runnable_total != points[-1].runnable for queue in sample.queues if (points := state.points(queue.name))
    )
    return arrived or _has_work(sample) or sample.overrides.force_activation


def is_idle(sample: FleetSample, state: ScalingState, spec: AutoscalerSpec, now: float) -> bool:
    """Whether there has been no work for the cooldown.

    The time of the last activity may come from `status`, which is written seldom. So after a restart the autoscaler
    also waits until it has looked for one stable window itself.
    """
    looked = now - state.started >= min(float(spec.cooldown_seconds), STABLE_WINDOW_SECONDS)
    return looked and not _has_work(sample) and now - state.last_active >= spec.cooldown_seconds


def _has_work(sample: FleetSample) -> bool:
    return bool(sample.backlog or sample.in_flight or sample.due_within_start or sample.busy_workers)
