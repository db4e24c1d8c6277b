"""`status`: the operator's observations and decisions. Times are RFC 3339."""

from __future__ import annotations

from pydantic import Field

from .autoscaler_spec import DecimalString
from .resource_model import ResourceModel


class QueueStatus(ResourceModel):
    """One queue, as of the last read."""

    name: str
    """Name of the queue."""
    backlog: int | None = None
    """Ready tasks."""
    in_flight: int | None = None
    """Claimed tasks."""
    delayed: int | None = None
    """Tasks that become ready later."""
    dead: int | None = None
    """Dead letters."""
    oldest_age_seconds: int | None = None
    """Age of the oldest ready task, in seconds."""
    arrival_per_second: DecimalString | None = None
    """Tasks that became ready, per second over a minute."""
    processing_seconds: DecimalString | None = None
    """Estimate of the mean run time, in seconds."""


class LastDecision(ResourceModel):
    """The last decision that wanted another number of replicas."""

    time: str | None = None
    """When it was made."""
    from_: int | None = Field(default=None, alias="from")
    """Replicas before."""
    to: int | None = None
    """Replicas wanted."""
    reason: str | None = None
    """The rule that gave the number, in one word."""
    message: str | None = None
    """The formula with its numbers."""
    limited_by: str | None = None
    """The limit that changed the number, if any."""


class AutoscalerStatus(ResourceModel):
    """The autoscaler's memory across a restart, and its last decision."""

    last_scale_time: str | None = None
    """When the number was last changed."""
    last_active_time: str | None = None
    """When there was last work."""
    panic_until: str | None = None
    """The end of the current or last panic."""
    last_decision: LastDecision | None = None


class ScheduleStatus(ResourceModel):
    """One schedule's last and next tick."""

    name: str
    """Name of the schedule."""
    last_schedule_time: str | None = None
    """The last tick."""
    next_schedule_time: str | None = None
    """The next tick."""


class ConditionStatus(ResourceModel):
    """A standard condition."""

    type: str
    """Type of the condition."""
    status: str
    """True, False or Unknown."""
    reason: str
    """The reason, in one word."""
    message: str = ""
    """The reason for a reader."""
    last_transition_time: str
    """When status last changed."""
    observed_generation: int | None = None
    """The generation of the spec that the condition is about."""


class TaskQueueStatus(ResourceModel):
    """`status`."""

    observed_generation: int | None = None
    """The generation of the spec that the children were made from."""
    replicas: int | None = None
    """Worker pods that exist."""
    ready_replicas: int | None = None
    """Worker pods that are ready."""
    desired_replicas: int | None = None
    """Worker pods that the autoscaler wants."""
    selector: str | None = None
    """Label selector of the worker pods, for the scale subresource."""
    total_backlog: int | None = None
    """Ready tasks in all queues."""
    total_in_flight: int | None = None
    """Claimed tasks in all queues."""
    total_dead: int | None = None
    """Dead letters in all queues."""
    oldest_age_seconds: int | None = None
    """Age of the oldest ready task in all queues, in seconds."""
    queues: tuple[QueueStatus, ...] = ()
    """The queues, as of the last read."""
    autoscaler: AutoscalerStatus | None = None
    schedules: tuple[ScheduleStatus, ...] = ()
    """The schedules."""
    conditions: tuple[ConditionStatus, ...] = ()
    """The conditions."""
