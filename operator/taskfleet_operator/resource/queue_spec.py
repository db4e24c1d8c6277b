"""`spec.queues`: the queues that the workers serve."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .resource_model import ResourceModel

QUEUE_NAME = r"^[A-Za-z0-9_:.\-]+$"


NOT_AN_OPTION = {"target_latency_seconds": "only the autoscaler reads it"}
"""Fields that `taskfleet.QueueOptions` does not have, each with its reason. All others are options of the library."""


class RateLimitSpec(ResourceModel):
    """A token bucket over all workers: `burst` tasks start at once, `tasksPerSecond` in the long run."""

    tasks_per_second: int = Field(ge=1, le=1_000_000)
    burst: int = Field(ge=1, le=1_000_000)


class DeadLetterSpec(ResourceModel):
    """How many dead letters a queue keeps, and for how long."""

    max_length: int = Field(default=10_000, ge=0, le=10_000_000)
    ttl_seconds: int = Field(default=1_209_600, ge=1, le=3_153_600_000)


class QueueSpec(ResourceModel):
    """One queue. Higher `priority` goes strictly first; `weight` shares between queues of one priority.

    `targetLatencySeconds` stands in for `autoscaler.target.drainSeconds`. `maxLength` 0 is unlimited.
    `concurrency` is how many of the queue's tasks run at once in the whole fleet, `concurrencyPerKey` how many with one
    limit_key. `rateLimit` and `rateLimitPerKey` limit how often they start. Without them there is no such limit.
    """

    name: str = Field(pattern=QUEUE_NAME, min_length=1, max_length=255)
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    weight: int = Field(default=1, ge=1, le=1_000_000)
    target_latency_seconds: int | None = Field(default=None, ge=1, le=86_400)
    lease_seconds: int = Field(default=30, ge=1, le=86_400)
    max_deliveries: int = Field(default=5, ge=1, le=1_000_000)
    max_length: int = Field(default=0, ge=0, le=2**53)
    partitions: int = Field(default=1, ge=1, le=64)
    rate_limit: RateLimitSpec | None = None
    rate_limit_per_key: RateLimitSpec | None = None
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000_000)
    concurrency_per_key: int | None = Field(default=None, ge=1, le=1_000_000_000)
    dead_letter: DeadLetterSpec = DeadLetterSpec()

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `taskfleet.QueueOptions`, as plain data for JSON."""
        return self.model_dump(exclude_none=True, exclude=set(NOT_AN_OPTION))
