"""`status`: the operator's observations and decisions. Times are RFC 3339."""

from __future__ import annotations

from pydantic import Field

from .autoscaler_spec import DecimalString
from .resource_model import ResourceModel


class QueueStatus(ResourceModel):
    """One queue, as of the last read."""

    name: str
    backlog: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    dead: int | None = None
    oldest_age_seconds: int | None = None
    arrival_per_second: DecimalString | None = None
    processing_seconds: DecimalString | None = None


class LastDecision(ResourceModel):
    """The last decision that wanted another number of replicas."""

    time: str | None = None
    from_: int | None = Field(default=None, alias="from")
    to: int | None = None
    reason: str | None = None
    message: str | None = None
    limited_by: str | None = None


class AutoscalerStatus(ResourceModel):
    """The autoscaler's memory across a restart, and its last decision."""

    last_scale_time: str | None = None
    last_active_time: str | None = None
    panic_until: str | None = None
    last_decision: LastDecision | None = None


class ScheduleStatus(ResourceModel):
    """One schedule's last and next tick."""

    name: str
    last_schedule_time: str | None = None
    next_schedule_time: str | None = None


class ConditionStatus(ResourceModel):
    """A standard condition."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str
    observed_generation: int | None = None


class TaskQueueStatus(ResourceModel):
    """`status`."""

    observed_generation: int | None = None
    replicas: int | None = None
    ready_replicas: int | None = None
    desired_replicas: int | None = None
    selector: str | None = None
    total_backlog: int | None = None
    total_in_flight: int | None = None
    oldest_age_seconds: int | None = None
    queues: tuple[QueueStatus, ...] = ()
    autoscaler: AutoscalerStatus | None = None
    schedules: tuple[ScheduleStatus, ...] = ()
    conditions: tuple[ConditionStatus, ...] = ()
