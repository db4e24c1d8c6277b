"""`spec.schedules`: tasks that are enqueued at their ticks, in the words of CronJob."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from .open_value import own_copy
from .patterns import matches, quoted
from .queue_spec import QUEUE_NAME
from .resource_model import ResourceModel, Rule

ConcurrencyPolicy = Literal["Allow", "Forbid", "Replace"]
_FIELDS = r"^([^ \t]+([ \t]+[^ \t]+){4,5}|@(yearly|annually|monthly|weekly|daily|midnight|hourly))$"
_OPEN = {"x-kubernetes-preserve-unknown-fields": True}


class CronScheduleSpec(ResourceModel):
    """`schedule` has five fields, or six with seconds first."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    """Name of the schedule."""
    schedule: str = Field(min_length=1, max_length=128)
    """Five cron fields, six with seconds first, or a name such as @daily."""
    time_zone: str = Field(default="UTC", min_length=1, max_length=64)
    """Name of the time zone, such as Europe/Berlin."""
    queue: str = Field(pattern=QUEUE_NAME, min_length=1, max_length=255)
    """The queue of the tasks; one of spec.queues."""
    task: str = Field(min_length=1, max_length=255)
    """Name of the task."""
    args: Annotated[
        tuple[Any, ...], AfterValidator(own_copy), WithJsonSchema({"type": "array", "maxItems": 64, "items": _OPEN})
    ] = ()
    """Positional arguments of the task."""
    kwargs: Annotated[dict[str, Any], AfterValidator(own_copy), WithJsonSchema({"type": "object", **_OPEN})] = Field(
        default={}
    )
    """Keyword arguments of the task."""
    concurrency_policy: ConcurrencyPolicy = "Allow"
    """Allow: runs may overlap. Forbid: a tick is skipped while the last run continues. Replace: it cancels that run."""
    starting_deadline_seconds: int | None = Field(default=None, ge=1, le=604_800)
    """A tick that is later than this, in seconds, is dropped."""
    jitter_seconds: int = Field(default=0, ge=0, le=3600)
    """A random delay of each tick, up to so many seconds."""
    suspend: bool = False
    """No ticks while true."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.schedule.matches({quoted(_FIELDS)})",
            "schedule: write five fields, six with seconds first, or a name such as @daily",
            ".schedule",
            lambda schedule: matches(_FIELDS, schedule.schedule),
        ),
        Rule(
            "self.timeZone != 'Local'",
            "timeZone: name a zone, such as Europe/Berlin or UTC; Local differs from pod to pod",
            ".timeZone",
            lambda schedule: schedule.time_zone != "Local",
        ),
        Rule(
            "!has(self.startingDeadlineSeconds) || self.jitterSeconds < self.startingDeadlineSeconds",
            "jitterSeconds must be less than startingDeadlineSeconds, or ticks are dropped by their own jitter",
            ".jitterSeconds",
            lambda schedule: (
                schedule.starting_deadline_seconds is None
                or schedule.jitter_seconds < schedule.starting_deadline_seconds
            ),
        ),
    )
