"""The settings of a trigger: the `metadata` of a ScaledObject's trigger, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pydantic
from pydantic import ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from taskfleet.errors import ConfigurationError

from ..autoscaler import NO_OVERRIDES
from ..resource.autoscaler_spec import AutoscalerSpec
from ..resource.manifest import problems
from ..resource.queue_spec import QueueSpec
from ..scaling.order import QueueTarget, ScalingOrder

_OF_KEDA = {"scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey"}


class _Settings(pydantic.BaseModel):
    """All values are texts: KEDA's metadata has no other type."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, str_strip_whitespace=True)

    queues: tuple[str, ...] = Field(min_length=1, max_length=64)
    key_prefix: str = Field(default="taskfleet", pattern=r"^[A-Za-z0-9_.\-]+$", max_length=64)
    concurrency: int = Field(default=16, ge=1, le=10_000)
    processes: int = Field(default=1, ge=1, le=64)
    drain_seconds: int = Field(default=60, ge=1, le=86_400)
    utilization_percent: int = Field(default=80, ge=1, le=100)
    backlog_per_replica: int = Field(default=100, ge=1, le=1_000_000)
    processing_time_seconds: str = "0.5"
    activation_backlog: int = Field(default=0, ge=0)
    prewarm_seconds: int = Field(default=30, ge=0, le=3600)
    poll_interval_seconds: int = Field(default=5, ge=1, le=600)

    @field_validator("queues", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("queues")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            QueueSpec(name=name)
        if len(set(value)) < len(value):
            raise ValueError("every name must be there once")
        return value


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger: the prefix of the keys in Redis, and the order that the recommendation follows."""

    key_prefix: str
    order: ScalingOrder


def trigger_of(metadata: Mapping[str, str]) -> Trigger:
    """The trigger with this metadata. Raises ConfigurationError, which names the field and its remedy."""
    given = {name: value for name, value in metadata.items() if name not in _OF_KEDA}
    try:
        settings = _Settings.model_validate(given)
        autoscaler = AutoscalerSpec.model_validate(
            {
                "mode": "Recommend",
                "maxReplicas": 10_000,
                "pollIntervalSeconds": settings.poll_interval_seconds,
                "target": {
                    "drainSeconds": settings.drain_seconds,
                    "utilizationPercent": settings.utilization_percent,
                    "backlogPerReplica": settings.backlog_per_replica,
                    "processingTimeSeconds": settings.processing_time_seconds,
                },
                "activation": {"backlog": settings.activation_backlog},
                "prewarm": {
                    "mode": "Enabled" if settings.prewarm_seconds else "Disabled",
                    "horizonSeconds": settings.prewarm_seconds,
                },
            }
        )
    except pydantic.ValidationError as error:
        raise ConfigurationError(f"metadata of the trigger: {problems(error)}") from None
    order = ScalingOrder(
        queues=tuple(QueueTarget(name) for name in settings.queues),
        autoscaler=autoscaler,
        overrides=NO_OVERRIDES,
        concurrency=settings.concurrency,
        processes=settings.processes,
    )
    return Trigger(settings.key_prefix, order)
