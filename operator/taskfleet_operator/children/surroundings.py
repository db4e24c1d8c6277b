"""What stands around the worker Deployment: account, configuration, disruption budget, service."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from taskfleet.options import QueueOptions

from ..resource.taskqueue import TaskQueueResource
from . import names
from .names import Child

PROBE_PORT = 8080
QUEUES_KEY = "queues.json"
_OPTIONS = {field.name for field in fields(QueueOptions)}


def service_account(queue: TaskQueueResource) -> Child:
    """Worker pods have no permission in Kubernetes and no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(queue, names.worker_name(queue)),
        "automountServiceAccountToken": False,
    }


def queue_options(queue: TaskQueueResource) -> list[dict[str, Any]]:
    """`spec.queues` as the library takes them: snake case, without what only the autoscaler reads."""
    return [
        {key: value for key, value in one.model_dump(exclude_none=True).items() if key in _OPTIONS}
        for one in queue.spec.queues
    ]


def config_map(queue: TaskQueueResource) -> Child:
    """The options of the queues, which the workers read at start."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.metadata(queue, names.worker_name(queue)),
        "data": {QUEUES_KEY: json.dumps(queue_options(queue), sort_keys=True)},
    }


def service(queue: TaskQueueResource) -> Child:
    """Headless: a name under which Prometheus finds every worker."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(queue, names.worker_name(queue)),
        "spec": {
            "clusterIP": "None",
            "selector": names.selector(queue),
            "ports": [{"name": "metrics", "port": PROBE_PORT, "targetPort": "probes", "protocol": "TCP"}],
        },
    }


def disruption_budget(queue: TaskQueueResource) -> Child:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(queue, names.worker_name(queue)),
        "spec": {
            "maxUnavailable": queue.spec.worker.pod_disruption_budget.max_unavailable,
            "selector": {"matchLabels": names.selector(queue)},
        },
    }
