"""`spec.queues`: the queues that the workers serve."""

from __future__ import annotations

from pydantic import Field

from .resource_model import ResourceModel

QUEUE_NAME = r"^[A-Za-z0-9_:.\-]+$"


class RateLimitSpec(ResourceModel):
    """A token bucket over all workers: `burst` at once, `tasksPerSecond` in the long run."""

    tasks_per_second: int = Field(ge=1, le=1_000_000)
    burst: int = Field(ge=1, le=1_000_000)


class DeadLetterSpec(ResourceModel):
    """How much of what failed for good is kept."""

    max_length: int = Field(default=10_000, ge=0, le=10_000_000)
    ttl_seconds: int = Field(default=1_209_600, ge=1, le=315_360_000)


class QueueSpec(ResourceModel):
    """One queue. Higher `priority` goes strictly first; `weight` shares between queues of one priority.

    `targetLatencySeconds` stands in for `autoscaler.target.drainSeconds`. `maxLength` 0 is unlimited.
    """

    name: str = Field(pattern=QUEUE_NAME, min_length=1, max_length=255)
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    weight: int = Field(default=1, ge=1, le=1000)
    target_latency_seconds: int | None = Field(default=None, ge=1, le=86_400)
    lease_seconds: int = Field(default=30, ge=2, le=86_400)
    max_deliveries: int = Field(default=5, ge=1, le=1000)
    max_length: int = Field(default=0, ge=0)
    partitions: int = Field(default=1, ge=1, le=64)
    rate_limit: RateLimitSpec | None = None
    dead_letter: DeadLetterSpec = DeadLetterSpec()
