"""A rollout: a Deployment replaces its pods by those of a new template.

While it lasts, pods of several ReplicaSets exist. The Deployment's controller divides a smaller number among them by a
rule of its own, which knows no deletion cost, so that it may remove busy pods although others are marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..store.cluster_store import Object

_HASH_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class Rollout:
    """`new` is the ReplicaSet of the Deployment's template, None before its controller has made it.

    `old` are the other ReplicaSets that have pods, or are to have some, in the order in which the controller takes pods
    from them. `paused`: its controller makes no progress.
    """

    new: Object | None
    old: tuple[Object, ...]
    paused: bool = False

    @property
    def under_way(self) -> bool:
        return bool(self.old)

    @property
    def hold(self) -> str:
        """Why the number must not fall now, "" when it may."""
        if not self.under_way:
            return ""
        updated = _pods(self.new) if self.new is not None else 0
        there = updated + sum(map(_pods, self.old))
        left = f"{updated} of {there} pods are new, and {there - updated} old pods are left"
        paused = ", and the Deployment is paused: `kubectl rollout resume` lets it go on" if self.paused else ""
        return f"a rollout is under way: {left}; none is taken away before it has ended{paused}"


def rollout_of(deployment: Object, replica_sets: Iterable[Object]) -> Rollout:
    """The rollout of a Deployment by its ReplicaSets, as its controller tells them apart: by the pod template.

    When no template is equal, the controller's own count decides: it may know fields that this comparison does not.
    """
    template = _template(deployment)
    by_age = sorted(replica_sets, key=lambda one: (one["metadata"].get("creationTimestamp", ""), _name(one)))
    new = next((one for one in by_age if _template(one) == template), None)
    with_pods = [one for one in by_age if wanted_of(one) or _pods(one)]
    if new is None and len(with_pods) == 1 and _says_complete(deployment):
        new = with_pods[0]
    paused = bool((deployment.get("spec") or {}).get("paused"))
    return Rollout(new, tuple(one for one in with_pods if one is not new), paused)


def wanted_of(replica_set: Object) -> int:
    return int((replica_set.get("spec") or {}).get("replicas", 0))


def _says_complete(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    return bool(seen and status.get("updatedReplicas", 0) == status.get("replicas", 0) > 0)


def _name(one: Object) -> str:
    return str(one["metadata"]["name"])


def _pods(replica_set: Object) -> int:
    return int((replica_set.get("status") or {}).get("replicas", 0))


def _template(owner: Object) -> dict[str, Any]:
    """The pod template, without the label by which the controller makes it unique."""
    template = dict((owner.get("spec") or {}).get("template") or {})
    metadata: Mapping[str, Any] = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != _HASH_LABEL}
    template["metadata"] = {"labels": labels, "annotations": metadata.get("annotations") or {}}
    return template
