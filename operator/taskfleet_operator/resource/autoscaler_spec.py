"""`spec.autoscaler`: the rules for the number of worker pods.

The words are those of HPA (`behavior`, `policies`, `stabilizationWindowSeconds`, `tolerance`) and KEDA (`fallback`,
`cooldownSeconds`), with the same meaning. Durations are whole seconds.
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
    """Fractions are strings, since a Kubernetes API has no floats and every client must read the same value."""
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
    """More ready tasks per worker than this are a signal to scale up."""
    scale_down_threshold: DecimalString = Decimal("1.0")
    """Fewer ready tasks per worker than this are a signal to scale down."""
    scale_up_count: int = Field(default=2, ge=1, le=1000)
    """Replicas added at a time."""
    scale_down_count: int = Field(default=1, ge=1, le=1000)
    """Replicas taken away at a time."""
    consecutive_signals: int = Field(default=2, ge=1, le=100)
    """Equal signals in a row before the number changes."""

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

    `processingTimeSeconds` is the mean run time of a task at the start of the estimate. `backlogPerReplica` applies
    until enough tasks have run for an estimate.
    """

    drain_seconds: int = Field(default=60, ge=1, le=86_400)
    """Seconds in which the backlog of a queue should be drained."""
    utilization_percent: int = Field(default=80, ge=1, le=100)
    """Share of the slots that a steady load should keep busy."""
    backlog_per_replica: int = Field(default=100, ge=1, le=1_000_000)
    """Waiting tasks per replica, while too few tasks have run for an estimate of their run time."""
    processing_time_seconds: DecimalString = Decimal("0.5")
    """Mean run time of a task, in seconds, at the start of the estimate."""

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
    """A queue without workers gets its first one when more tasks than this are ready."""


class PanicSpec(ResourceModel):
    """Demand within a short window of `thresholdPercent` of the ready workers: up at once, not down for a minute."""

    mode: FeatureMode = "Enabled"
    """Disabled: only the steady rate counts."""
    window_seconds: int = Field(default=6, ge=1, le=60)
    """Length of the short window, in seconds."""
    threshold_percent: int = Field(default=200, ge=110, le=1000)
    """Demand of the short window, in per cent of the ready workers, at which a panic begins."""


class PrewarmSpec(ResourceModel):
    """Count delayed and scheduled tasks that come due within `horizonSeconds` as work."""

    mode: FeatureMode = "Enabled"
    """Disabled: a delayed task counts only when it is ready."""
    horizon_seconds: int = Field(default=30, ge=0, le=3600)
    """Tasks that become due within so many seconds count as work."""


class ScalingPolicy(ResourceModel):
    """At most `value` pods, or per cent of the pods, in `periodSeconds`."""

    type: PolicyType
    """The unit of value: Pods, or Percent of the current replicas."""
    value: int = Field(ge=1)
    """The largest change within the period."""
    period_seconds: int = Field(ge=1, le=1800)
    """Length of the period, in seconds."""


_UP_POLICIES = (
    ScalingPolicy(type="Percent", value=100, period_seconds=15),
    ScalingPolicy(type="Pods", value=10, period_seconds=15),
)
_DOWN_POLICIES = (ScalingPolicy(type="Percent", value=50, period_seconds=60),)


class ScaleUpRules(ResourceModel):
    """HPA's `behavior.scaleUp`."""

    stabilization_window_seconds: int = Field(default=0, ge=0, le=3600)
    """The fleet grows only to a number that was wanted for so many seconds."""
    tolerance: DecimalString = Decimal("0.1")
    """A change by a smaller share than this is not made; 0.1 is 10 per cent."""
    select_policy: SelectPolicy = "Max"
    """Max: the policy that allows the largest change counts. Min: the smallest. Disabled: the fleet does not grow."""
    policies: tuple[ScalingPolicy, ...] = Field(default=_UP_POLICIES, min_length=1, max_length=20)
    """How far the fleet may grow within a period."""


class ScaleDownRules(ResourceModel):
    """HPA's `behavior.scaleDown`."""

    stabilization_window_seconds: int = Field(default=120, ge=0, le=3600)
    """The fleet shrinks only to a number that was enough for so many seconds."""
    tolerance: DecimalString = Decimal("0.1")
    """A change by a smaller share than this is not made; 0.1 is 10 per cent."""
    select_policy: SelectPolicy = "Max"
    """Max: the policy that allows the largest change counts. Min: the smallest. Disabled: the fleet does not shrink."""
    policies: tuple[ScalingPolicy, ...] = Field(default=_DOWN_POLICIES, min_length=1, max_length=20)
    """How far the fleet may shrink within a period."""


class BehaviorSpec(ResourceModel):
    """HPA's `behavior`, with defaults for queues."""

    scale_up: ScaleUpRules = ScaleUpRules()
    scale_down: ScaleDownRules = ScaleDownRules()


class VictimSpec(ResourceModel):
    """The choice of pods to remove.

    `IdleOnly` drains a worker before its pod is removed, up to `drainTimeoutSeconds`.
    """

    victim_policy: VictimPolicy = "IdleOnly"
    """IdleOnly: only drained pods are removed. DeploymentDefault: the ReplicaSet controller chooses, also busy pods."""
    drain_timeout_seconds: int = Field(default=600, ge=0, le=86_400)
    """How long a worker may take to drain, in seconds. After that it stays, and is drained another time, unless no
    worker is wanted at all."""


class FallbackSpec(ResourceModel):
    """KEDA's `fallback`: the replicas after `failureThreshold` failed reads of the queues in a row."""

    failure_threshold: int = Field(default=3, ge=1, le=1000)
    """Failed reads in a row before the fallback applies."""
    behavior: FallbackBehavior = "CurrentReplicas"
    """CurrentReplicas keeps the number. Static uses replicas. CurrentReplicasIfHigher and CurrentReplicasIfLower
    use the higher or the lower of both."""
    replicas: int = Field(default=2, ge=0, le=10_000)
    """The number for every behavior but CurrentReplicas."""


class AutoscalerSpec(ResourceModel):
    """`spec.autoscaler`.

    `mode: Managed` sets the replicas, `Recommend` only writes status, `Disabled` leaves them to `spec.replicas`.
    """

    mode: AutoscalerMode = "Managed"
    """Managed: the autoscaler sets the replicas. Recommend: it only writes status. Disabled: spec.replicas counts."""
    policy: AutoscalerPolicy = "DrainTime"
    """DrainTime: as many workers as drain the backlog in time. Threshold: a step up or down at a threshold."""
    min_replicas: int = Field(default=0, ge=0, le=10_000)
    """The fewest replicas."""
    max_replicas: int = Field(default=50, ge=1, le=10_000)
    """The most replicas."""
    poll_interval_seconds: int = Field(default=5, ge=1, le=600)
    """Seconds between two decisions. A new task in an empty queue is noticed at once."""
    cooldown_seconds: int = Field(default=300, ge=0, le=86_400)
    """Seconds without work before the fleet goes to zero."""
    threshold: ThresholdSpec = ThresholdSpec()
    target: TargetSpec = TargetSpec()
    activation: ActivationSpec = ActivationSpec()
    panic: PanicSpec = PanicSpec()
    prewarm: PrewarmSpec = PrewarmSpec()
    behavior: BehaviorSpec = BehaviorSpec()
    scale_down: VictimSpec = VictimSpec()
    max_pending_replicas: int = Field(default=25, ge=1, le=10_000)
    """The most replicas that may be requested and not ready."""
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
