"""`spec.autoscaler`: the rules for the number of worker pods.

The words are HPA's (`behavior`, `policies`, `stabilizationWindowSeconds`, `tolerance`) and KEDA's (`fallback`,
`cooldownSeconds`), and mean what they mean there. Durations are whole seconds.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from .resource_model import ResourceModel, Rule

DECIMAL_PATTERN = r"^[0-9]+(\.[0-9]+)?$"
MAX_DECIMAL_LENGTH = 20


def _parse_decimal(value: object) -> Decimal:
    """A Kubernetes API has no floating-point numbers: a fraction is a string, so that every client reads the same."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'must be a string holding a decimal number: write "{value}", in quotes')
    if not isinstance(value, str) or len(value) > MAX_DECIMAL_LENGTH or re.fullmatch(DECIMAL_PATTERN, value) is None:
        raise ValueError(f'must be a decimal number in quotes, such as "5.0", not {value!r}')
    return Decimal(value)


DecimalString = Annotated[
    Decimal,
    BeforeValidator(_parse_decimal),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DECIMAL_PATTERN, "maxLength": MAX_DECIMAL_LENGTH}),
]

AutoscalerMode = Literal["Managed", "Recommend", "Disabled"]
AutoscalerPolicy = Literal["DrainTime", "Threshold"]
FeatureMode = Literal["Enabled", "Disabled"]
PolicyType = Literal["Percent", "Pods"]
SelectPolicy = Literal["Max", "Min", "Disabled"]
VictimPolicy = Literal["IdleOnly", "DeploymentDefault"]
FallbackBehavior = Literal["CurrentReplicas", "Static", "CurrentReplicasIfHigher", "CurrentReplicasIfLower"]


class ThresholdSpec(ResourceModel):
    """`policy: Threshold`: ready tasks per worker above or below a threshold, plus or minus a count."""

    scale_up_threshold: DecimalString = Decimal("5.0")
    scale_down_threshold: DecimalString = Decimal("1.0")
    scale_up_count: int = Field(default=2, ge=1, le=1000)
    scale_down_count: int = Field(default=1, ge=1, le=1000)
    consecutive_signals: int = Field(default=2, ge=1, le=100)

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "double(self.scaleDownThreshold) < double(self.scaleUpThreshold)",
            "threshold: scaleDownThreshold must be below scaleUpThreshold",
            ".scaleDownThreshold",
            lambda threshold: threshold.scale_down_threshold < threshold.scale_up_threshold,
        ),
    )


class TargetSpec(ResourceModel):
    """`policy: DrainTime`: drain the backlog within `drainSeconds`, with slots busy to `utilizationPercent`.

    `processingTimeSeconds` is the mean run time of a task that the estimate starts from.
    `backlogPerReplica` rules until enough tasks have run to know better.
    """

    drain_seconds: int = Field(default=60, ge=1, le=86_400)
    utilization_percent: int = Field(default=80, ge=1, le=100)
    backlog_per_replica: int = Field(default=100, ge=1, le=1_000_000)
    processing_time_seconds: DecimalString = Decimal("0.5")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "double(self.processingTimeSeconds) > 0.0",
            "target: processingTimeSeconds must be greater than 0",
            ".processingTimeSeconds",
            lambda target: target.processing_time_seconds > 0,
        ),
    )


class ActivationSpec(ResourceModel):
    """A queue without workers gets its first one when more than `backlog` tasks are ready."""

    backlog: int = Field(default=0, ge=0)


class PanicSpec(ResourceModel):
    """Demand within a short window of `thresholdPercent` of the ready workers: up at once, not down for a minute."""

    mode: FeatureMode = "Enabled"
    window_seconds: int = Field(default=6, ge=1, le=60)
    threshold_percent: int = Field(default=200, ge=110, le=1000)


class PrewarmSpec(ResourceModel):
    """Count delayed and scheduled tasks that come due within `horizonSeconds` as work."""

    mode: FeatureMode = "Enabled"
    horizon_seconds: int = Field(default=30, ge=0, le=3600)


class ScalingPolicy(ResourceModel):
    """At most `value` pods, or per cent of the pods, in `periodSeconds`."""

    type: PolicyType
    value: int = Field(ge=1)
    period_seconds: int = Field(ge=1, le=1800)


_UP_POLICIES = (
    ScalingPolicy(type="Percent", value=100, period_seconds=15),
    ScalingPolicy(type="Pods", value=10, period_seconds=15),
)
_DOWN_POLICIES = (ScalingPolicy(type="Percent", value=50, period_seconds=60),)


class ScaleUpRules(ResourceModel):
    """HPA's `behavior.scaleUp`."""

    stabilization_window_seconds: int = Field(default=0, ge=0, le=3600)
    tolerance: DecimalString = Decimal("0.1")
    select_policy: SelectPolicy = "Max"
    policies: tuple[ScalingPolicy, ...] = Field(default=_UP_POLICIES, min_length=1, max_length=20)


class ScaleDownRules(ResourceModel):
    """HPA's `behavior.scaleDown`."""

    stabilization_window_seconds: int = Field(default=120, ge=0, le=3600)
    tolerance: DecimalString = Decimal("0.1")
    select_policy: SelectPolicy = "Max"
    policies: tuple[ScalingPolicy, ...] = Field(default=_DOWN_POLICIES, min_length=1, max_length=20)


class BehaviorSpec(ResourceModel):
    """HPA's `behavior`, with defaults for queues."""

    scale_up: ScaleUpRules = ScaleUpRules()
    scale_down: ScaleDownRules = ScaleDownRules()


class VictimSpec(ResourceModel):
    """Which pods go. `IdleOnly` drains a worker before its pod goes, waiting up to `drainTimeoutSeconds`."""

    victim_policy: VictimPolicy = "IdleOnly"
    drain_timeout_seconds: int = Field(default=600, ge=0, le=86_400)


class FallbackSpec(ResourceModel):
    """KEDA's `fallback`: what to run when `failureThreshold` reads of the queues in a row have failed."""

    failure_threshold: int = Field(default=3, ge=1, le=1000)
    behavior: FallbackBehavior = "CurrentReplicas"
    replicas: int = Field(default=2, ge=0, le=10_000)


class AutoscalerSpec(ResourceModel):
    """`spec.autoscaler`.

    `mode: Managed` sets the replicas, `Recommend` only writes status, `Disabled` leaves them to `spec.replicas`.
    """

    mode: AutoscalerMode = "Managed"
    policy: AutoscalerPolicy = "DrainTime"
    min_replicas: int = Field(default=0, ge=0, le=10_000)
    max_replicas: int = Field(default=50, ge=1, le=10_000)
    poll_interval_seconds: int = Field(default=5, ge=1, le=600)
    cooldown_seconds: int = Field(default=300, ge=0, le=86_400)
    threshold: ThresholdSpec = ThresholdSpec()
    target: TargetSpec = TargetSpec()
    activation: ActivationSpec = ActivationSpec()
    panic: PanicSpec = PanicSpec()
    prewarm: PrewarmSpec = PrewarmSpec()
    behavior: BehaviorSpec = BehaviorSpec()
    scale_down: VictimSpec = VictimSpec()
    max_pending_replicas: int = Field(default=25, ge=1, le=10_000)
    fallback: FallbackSpec = FallbackSpec()

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "autoscaler: minReplicas must not be greater than maxReplicas",
            ".minReplicas",
            lambda autoscaler: autoscaler.min_replicas <= autoscaler.max_replicas,
        ),
        Rule(
            "self.fallback.behavior != 'Static' || self.fallback.replicas <= self.maxReplicas",
            "autoscaler: fallback.replicas must not be greater than maxReplicas",
            ".fallback.replicas",
            lambda autoscaler: (
                autoscaler.fallback.behavior != "Static" or autoscaler.fallback.replicas <= autoscaler.max_replicas
            ),
        ),
    )
