"""The `TaskQueue` resource."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from taskfleet.errors import ConfigurationError
from taskfleet.redis import urls

from .autoscaler_spec import AutoscalerSpec, FeatureMode
from .patterns import matches, quoted
from .queue_spec import QueueSpec
from .redis_spec import RedisSpec
from .resource_model import ResourceModel, Rule
from .schedule_spec import CronScheduleSpec
from .worker_spec import WorkerSpec

GROUP, VERSION, PLURAL, KIND = "taskfleet.io", "v1alpha1", "taskqueues", "TaskQueue"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_NAME = 47  # a pod's name adds the Deployment's suffix and two hashes, and must stay a label value
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"  # RFC 1035, because the Service has the name too

DeletionPolicy = Literal["Retain", "Purge"]


class SchedulerSpec(ResourceModel):
    """Whether `spec.schedules` tick."""

    mode: FeatureMode = "Enabled"
    """Disabled: no schedule ticks."""


class TaskQueueSpec(ResourceModel):
    """`spec`. `replicas` counts when `autoscaler.mode` is Disabled; `suspend` drains and scales to zero."""

    suspend: bool = False
    """No new claims; running tasks finish; then the fleet goes to zero, in every mode; no schedule ticks."""
    deletion_policy: DeletionPolicy = "Retain"
    """Retain: the keys in Redis stay. Purge: they are deleted with the TaskQueue."""
    replicas: int | None = Field(default=None, ge=0, le=10_000)
    """The number of worker pods while autoscaler.mode is Disabled; 1 when unset. Set by the scale subresource."""
    redis: RedisSpec
    queues: tuple[QueueSpec, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """The queues that the workers serve."""
    worker: WorkerSpec
    autoscaler: AutoscalerSpec = AutoscalerSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    schedules: tuple[CronScheduleSpec, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Tasks by the clock."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.queues.all(q, self.queues.exists_one(other, other.name == q.name))",
            "queues: every name must be there once",
            ".queues",
            lambda spec: len({queue.name for queue in spec.queues}) == len(spec.queues),
        ),
        Rule(
            "self.schedules.all(s, self.queues.exists(q, q.name == s.queue))",
            "schedules: every schedule's queue must be one of spec.queues",
            ".schedules",
            lambda spec: {schedule.queue for schedule in spec.schedules} <= {queue.name for queue in spec.queues},
        ),
        Rule(
            "self.schedules.all(s, self.schedules.exists_one(other, other.name == s.name))",
            "schedules: every name must be there once",
            ".schedules",
            lambda spec: len({schedule.name for schedule in spec.schedules}) == len(spec.schedules),
        ),
    )


class Metadata(ResourceModel):
    """The part of an object's metadata that the operator reads."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1)
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    resource_version: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class TaskQueueResource(ResourceModel):
    """One object of the resource. `status` is kept as the API server returns it."""

    api_version: Literal["taskfleet.io/v1alpha1"] = "taskfleet.io/v1alpha1"
    kind: Literal["TaskQueue"] = "TaskQueue"
    metadata: Metadata
    spec: TaskQueueSpec
    status: dict[str, Any] = Field(default_factory=dict)

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {MAX_NAME}",
            f"metadata.name must have at most {MAX_NAME} characters, so that the names of its pods fit",
            ".metadata.name",
            lambda queue: len(queue.metadata.name) <= MAX_NAME,
        ),
        Rule(
            f"self.metadata.name.matches({quoted(_NAME)})",
            "metadata.name must be lower-case letters, digits and -, begin with a letter and end with a letter or "
            "digit: the Service and the pods of the workers have it in their names",
            ".metadata.name",
            lambda queue: matches(_NAME, queue.metadata.name),
        ),
    )


def not_supported(spec: TaskQueueSpec) -> str | None:
    """The first field that this version does not support or cannot read, in one line; `None` when there is none."""
    if spec.redis.url is not None:
        try:
            urls.parse(spec.redis.url)
        except ConfigurationError as error:
            return f"spec.redis.url: {error}"
    return None
