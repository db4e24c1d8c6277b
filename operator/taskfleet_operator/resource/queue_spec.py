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
    """Tasks that start per second in the long run."""
    burst: int = Field(ge=1, le=1_000_000)
    """Tasks that may start at once."""


class DeadLetterSpec(ResourceModel):
    """How many dead letters a queue keeps, and for how long."""

    max_length: int = Field(default=10_000, ge=0, le=10_000_000)
    """Dead letters that are kept; the oldest go first."""
    ttl_seconds: int = Field(default=1_209_600, ge=1, le=3_153_600_000)
    """How long a dead letter is kept, in seconds."""


class QueueSpec(ResourceModel):
    """One queue. A higher `priority` is served strictly first; `weight` shares between queues of one priority.

    `targetLatencySeconds` replaces `autoscaler.target.drainSeconds`. `maxLength` 0 is unlimited. `concurrency` is the
    number of the queue's tasks that run at once in the whole fleet, `concurrencyPerKey` the number with one limit_key.
    `rateLimit` and `rateLimitPerKey` limit how often they start. Without them there is no such limit.
    """

    name: str = Field(pattern=QUEUE_NAME, min_length=1, max_length=255)
    """Name of the queue: letters, digits, and the characters _ : . -"""
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    """A queue with a higher priority is served strictly first."""
    weight: int = Field(default=1, ge=1, le=1_000_000)
    """Share of the claims among queues of the same priority."""
    target_latency_seconds: int | None = Field(default=None, ge=1, le=86_400)
    """Replaces autoscaler.target.drainSeconds for this queue."""
    lease_seconds: int = Field(default=30, ge=1, le=86_400)
    """How long a claim holds without being renewed, in seconds. After that another worker may take the task over."""
    max_deliveries: int = Field(default=5, ge=1, le=1_000_000)
    """A task that was delivered more often than this becomes a dead letter."""
    max_length: int = Field(default=0, ge=0, le=2**53)
    """Tasks that may wait; more are refused. 0 is unlimited."""
    partitions: int = Field(default=1, ge=1, le=64)
    """Hash slots of a Redis Cluster that the queue is spread over."""
    rate_limit: RateLimitSpec | None = None
    """How often tasks of this queue start, over the whole fleet. Unset is unlimited."""
    rate_limit_per_key: RateLimitSpec | None = None
    """How often tasks with the same limit_key start, over the whole fleet. Unset is unlimited."""
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Tasks of this queue that run at once, over the whole fleet. Unset is unlimited."""
    concurrency_per_key: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Tasks with the same limit_key that run at once, over the whole fleet. Unset is unlimited."""
    dead_letter: DeadLetterSpec = DeadLetterSpec()

    def options(self) -> dict[str, Any]:
        """The fields as keyword arguments of `taskfleet.QueueOptions`, as plain data for JSON."""
        return self.model_dump(exclude_none=True, exclude=set(NOT_AN_OPTION))
