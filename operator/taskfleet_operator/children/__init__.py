"""The Kubernetes objects that a TaskQueue becomes: pure functions of the resource."""

from __future__ import annotations

from ..resource.taskqueue import TaskQueueResource
from .deployment import deployment
from .names import Child
from .surroundings import config_map, disruption_budget, service, service_account


def children_of(queue: TaskQueueResource, secrets: dict[str, str] | None = None) -> list[Child]:
    """All objects, in the order in which they are applied; the Deployment is the last and has no `replicas`.

    `secrets` maps `name/key` of each referenced secret key to a digest of its value: a new value rolls the pods.
    """
    config = config_map(queue)
    objects: list[Child] = [service_account(queue), config, service(queue)]
    if queue.spec.worker.pod_disruption_budget.mode == "Enabled":
        objects.append(disruption_budget(queue))
    objects.append(deployment(queue, config["data"], secrets or {}))
    return objects


__all__ = ["Child", "children_of"]
