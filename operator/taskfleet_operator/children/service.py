"""The headless Service, under whose name Prometheus finds every worker."""

from __future__ import annotations

from collections.abc import Mapping

from ..resource.taskqueue import TaskQueueResource
from . import names
from .child_kind import Child, ChildKind


def _build(queue: TaskQueueResource, _secrets: Mapping[str, str]) -> Child:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(queue),
        "spec": {
            "clusterIP": "None",
            "selector": names.selector(queue),
            "ports": [{"name": "metrics", "port": names.PROBE_PORT, "targetPort": "probes", "protocol": "TCP"}],
        },
    }


KIND = ChildKind("v1", "Service", "services", _build, spare=True)
