"""`spec.worker`: the image, the application and the pods of the workers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema

from .resource_model import ResourceModel, Rule

UpdateType = Literal["RollingUpdate", "Drain"]
FeatureMode = Literal["Enabled", "Disabled"]
INT_OR_PERCENT = {"x-kubernetes-int-or-string": True, "pattern": r"^[0-9]+%$", "maxLength": 10}
IntOrPercent = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[0-9]+%$", max_length=10)],
    WithJsonSchema(INT_OR_PERCENT),
]
_NONE = (0, "0%")


class RollingUpdateSpec(ResourceModel):
    """As in a Deployment."""

    max_surge: IntOrPercent = "25%"
    """Pods above the number that may exist during an update, as a number or a percentage."""
    max_unavailable: IntOrPercent = 0
    """Pods that may be unavailable during an update, as a number or a percentage."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!((self.maxSurge == 0 || self.maxSurge == '0%') && "
            "(self.maxUnavailable == 0 || self.maxUnavailable == '0%'))",
            "rollingUpdate: maxSurge and maxUnavailable cannot both be 0, or no pod could ever be replaced",
            ".maxSurge",
            lambda update: not (update.max_surge in _NONE and update.max_unavailable in _NONE),
        ),
    )


class UpdateStrategySpec(ResourceModel):
    """How worker pods are replaced when something that they read has changed."""

    type: UpdateType = "RollingUpdate"
    """RollingUpdate: as in a Deployment. Drain: old pods drain first."""
    rolling_update: RollingUpdateSpec | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.type == 'RollingUpdate' || !has(self.rollingUpdate)",
            "updateStrategy: rollingUpdate needs type: RollingUpdate",
            ".rollingUpdate",
            lambda strategy: strategy.type == "RollingUpdate" or strategy.rolling_update is None,
        ),
    )


class PodDisruptionBudgetSpec(ResourceModel):
    """How many workers a node drain may take at a time."""

    mode: FeatureMode = "Enabled"
    """Disabled: no PodDisruptionBudget."""
    max_unavailable: IntOrPercent = 1
    """Pods that may be evicted at a time, as a number or a percentage."""


class WorkerSpec(ResourceModel):
    """`concurrency` is slots per process. A pod's grace period is `drainTimeoutSeconds` + 15.

    `template` is a PodTemplateSpec, merged strategically over the generated one, whose container is `worker`.
    """

    image: str = Field(min_length=1, max_length=1024, pattern=r"^\S+$")
    """The image with the application."""
    app: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=512)
    """The TaskQueue in the application, as module:attribute."""
    concurrency: int = Field(default=16, ge=1, le=10_000)
    """Tasks that one process runs at once."""
    processes: int = Field(default=1, ge=1, le=64)
    """Worker processes in a pod."""
    drain_timeout_seconds: int = Field(default=120, ge=0, le=86_400)
    """How long running tasks may take after SIGTERM, in seconds. The pod's grace period is 15 s more."""
    update_strategy: UpdateStrategySpec = UpdateStrategySpec()
    pod_disruption_budget: PodDisruptionBudgetSpec = PodDisruptionBudgetSpec()
    template: Annotated[
        dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    ] = Field(default_factory=dict)
    """A PodTemplateSpec that is merged over the generated one."""
