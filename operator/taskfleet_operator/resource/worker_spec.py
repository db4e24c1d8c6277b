"""`spec.worker`: the image, the application and the pods of the workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from .open_value import own_copy
from .patterns import matches, quoted
from .resource_model import ResourceModel, Rule

UpdateType = Literal["RollingUpdate", "Drain"]
SecurityProfile = Literal["Restricted", "ArbitraryUser"]
FeatureMode = Literal["Enabled", "Disabled"]

_MOST_PODS = 1_000_000
_AT_MOST_ALL = r"^(100|[1-9]?[0-9])%$"
_ANY_SHARE = r"^(0|[1-9][0-9]{0,3})%$"


def _int_or_percent(pattern: str) -> Any:
    """The API server's IntOrString: a number of pods, or a share in the one spelling that Kubernetes counts right."""
    return WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "minimum": 0, "maximum": _MOST_PODS, "pattern": pattern, "maxLength": 10}
    )


_Pods = Annotated[int, Field(ge=0, le=_MOST_PODS)]
PodsOrPercent = Annotated[
    _Pods | Annotated[str, Field(pattern=_AT_MOST_ALL, max_length=10)], _int_or_percent(_AT_MOST_ALL)
]
"""A number of pods, or 0% to 100% of them."""
SurgeOrPercent = Annotated[
    _Pods | Annotated[str, Field(pattern=_ANY_SHARE, max_length=10)], _int_or_percent(_ANY_SHARE)
]
"""A number of pods, or a share of them, which may be above 100%."""
_NONE = (0, "0%")


class RollingUpdateSpec(ResourceModel):
    """As in a Deployment."""

    max_surge: SurgeOrPercent = "25%"
    """Pods above the number that may exist during an update, as a number or a percentage."""
    max_unavailable: PodsOrPercent = 0
    """Pods that may be unavailable during an update, as a number or a percentage up to 100%."""

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
    """RollingUpdate: as in a Deployment. Drain: the new pods start beside the old ones and claim at once; an old pod is
    removed when it has finished what it runs."""
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
    max_unavailable: PodsOrPercent = 1
    """Pods that may be evicted at a time, as a number or a percentage up to 100%."""


class EvictionProtectionSpec(ResourceModel):
    """Whether the pods of workers that run long tasks ask node autoscalers to let them finish.

    Such a pod carries `cluster-autoscaler.kubernetes.io/safe-to-evict: "false"` and
    `karpenter.sh/do-not-disrupt: "true"` for as long as it is busy.
    """

    mode: FeatureMode = "Enabled"
    """Disabled: node autoscalers see no difference between busy and idle pods."""
    after_seconds: int = Field(default=60, ge=0, le=86_400)
    """A pod is protected when a task has run in it for so many seconds."""


class TopologySpreadSpec(ResourceModel):
    """Whether the pods are spread over nodes and zones, as far as there is room."""

    mode: FeatureMode = "Enabled"
    """Enabled: the scheduler prefers the node and the zone with the fewest workers, and never leaves a pod pending for
    it. Disabled: no constraint."""


_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_KEY = rf"^({_DNS_LABEL}(\.{_DNS_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"
_MOST_OF_PREFIX = 253
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_OURS = r"^app\.kubernetes\.io/(name|instance|component|part-of|managed-by)$"
_THEIRS = r"^(deployment\.kubernetes\.io/.*|kubectl\.kubernetes\.io/.*|taskfleet\.io/.*)$"
_MOST_KEYS = 32
Labels = dict[str, Annotated[str, Field(pattern=_LABEL_VALUE, max_length=63)]]
Annotations = dict[str, Annotated[str, Field(max_length=4096)]]


def _keys(field: str) -> str:
    return f"self.{field}.all(k, k.matches({quoted(_LABEL_KEY)}) && k.indexOf('/') <= {_MOST_OF_PREFIX})"


def _are_keys(keys: Iterable[str]) -> bool:
    return all(matches(_LABEL_KEY, key) and key.find("/") <= _MOST_OF_PREFIX for key in keys)


def _no_keys(field: str, pattern: str) -> str:
    return f"self.{field}.all(k, !k.matches({quoted(pattern)}))"


class ChildMetadataSpec(ResourceModel):
    """Labels and annotations of the objects that the operator makes: Deployment, Service, PodDisruptionBudget,
    ServiceAccount and ConfigMap. Those of the pods stand in `template.metadata`."""

    labels: Labels = Field(default={}, max_length=_MOST_KEYS)
    """Labels, beside the operator's own."""
    annotations: Annotations = Field(default={}, max_length=_MOST_KEYS)
    """Annotations, such as that of a cloud's workload identity for the ServiceAccount."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            _keys("labels"),
            "metadata: a key of labels must be at most 63 letters, digits, - _ or ., with a DNS prefix if any",
            ".labels",
            lambda metadata: _are_keys(metadata.labels),
        ),
        Rule(
            _keys("annotations"),
            "metadata: a key of annotations must be at most 63 letters, digits, - _ or ., with a DNS prefix if any",
            ".annotations",
            lambda metadata: _are_keys(metadata.annotations),
        ),
        Rule(
            _no_keys("labels", _OURS),
            "metadata: the operator sets app.kubernetes.io/name, instance, component, part-of and managed-by itself",
            ".labels",
            lambda metadata: not any(matches(_OURS, key) for key in metadata.labels),
        ),
        Rule(
            _no_keys("annotations", _THEIRS),
            "metadata: annotations of deployment.kubernetes.io, kubectl.kubernetes.io and taskfleet.io are written by "
            "programs",
            ".annotations",
            lambda metadata: not any(matches(_THEIRS, key) for key in metadata.annotations),
        ),
    )


_OPEN_OBJECT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
PodTemplate = Annotated[
    dict[str, Any],
    AfterValidator(own_copy),
    # A PodTemplateSpec has these two fields. Their content is checked by a dry run, since its schema has 140 kB.
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "metadata": {**_OPEN_OBJECT, "description": "Labels and annotations of the pods."},
                "spec": {**_OPEN_OBJECT, "description": "A PodSpec."},
            },
        }
    ),
]


class WorkerSpec(ResourceModel):
    """`concurrency` is slots per process. A pod's grace period is `drainTimeoutSeconds` + 15.

    `template` is a PodTemplateSpec, merged strategically over the generated one, whose container is `worker`.
    """

    image: str = Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x20\x7f]+$")
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
    eviction_protection: EvictionProtectionSpec = EvictionProtectionSpec()
    topology_spread: TopologySpreadSpec = TopologySpreadSpec()
    security_profile: SecurityProfile = "Restricted"
    """Restricted: the pods run as user and group 65532. ArbitraryUser: they name no user, so that the platform (as
    OpenShift does) or the image chooses one; it must not be root. Both meet Pod Security restricted."""
    metadata: ChildMetadataSpec = ChildMetadataSpec()
    template: PodTemplate = Field(default={})
    """A PodTemplateSpec that is merged over the generated one. A null, or $patch: delete in a list, removes something
    from it."""
