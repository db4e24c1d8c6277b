"""The parts of a TaskQueue manifest that apply on one machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.errors import ConfigurationError

from ..resource.taskqueue import TaskQueueResource
from ..scaling.order import ScalingOrder, order_of


@dataclass(frozen=True)
class LocalPlan:
    """The parts of a manifest that apply without a cluster. `environment` is for every worker; times in seconds."""

    name: str
    app: str
    order: ScalingOrder
    drain_timeout_seconds: int
    manifest_url: str
    key_prefix: str
    environment: Mapping[str, str]


def plan_of(manifest: TaskQueueResource, folder: Path) -> LocalPlan:
    """The plan for a manifest in `folder`; the app may be imported from there or from the current folder."""
    spec = manifest.spec
    if not spec.worker.app:
        raise ConfigurationError("spec.worker.app: say which TaskQueue the workers run, such as shop.tasks:queue")
    environment = {
        **_plain_variables(spec.worker.template or {}),
        "TASKFLEET_QUEUES": json.dumps([queue.options() for queue in spec.queues]),
        "TASKFLEET_REDIS__KEY_PREFIX": spec.redis.key_prefix,
        "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": str(spec.worker.drain_timeout_seconds),
        "PYTHONPATH": os.pathsep.join(
            part for part in (os.getcwd(), str(folder.resolve()), os.environ.get("PYTHONPATH", "")) if part
        ),
        "PYTHONUNBUFFERED": "1",
        "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "1",  # cheap for a few workers, and keeps the table current
    }
    return LocalPlan(
        name=manifest.metadata.name or "taskqueue",
        app=spec.worker.app,
        order=order_of(manifest),
        drain_timeout_seconds=spec.worker.drain_timeout_seconds,
        manifest_url=spec.redis.url or "",
        key_prefix=spec.redis.key_prefix,
        environment=environment,
    )


def _plain_variables(template: Mapping[str, Any]) -> dict[str, str]:
    """The environment that the pod template gives the worker by value; references need a cluster."""
    containers = template.get("spec", {}).get("containers", [])
    variables = [entry for one in containers if one.get("name") == "worker" for entry in one.get("env", [])]
    return {entry["name"]: str(entry["value"]) for entry in variables if "value" in entry}
