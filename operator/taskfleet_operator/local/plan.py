"""The parts of a TaskQueue manifest that apply on one machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.errors import ConfigurationError

from ..kept_schedules import Owner, WantedSchedule, wanted_of
from ..resource.taskqueue import TaskQueueResource
from ..scaling.order import ScalingOrder, order_of
from .manifest_redis import ManifestRedis, redis_of

_NO_NAMESPACE = "taskfleet up"  # the operator's TaskQueue of that name, on the same Redis, has another owner


@dataclass(frozen=True)
class LocalPlan:
    """The parts of a manifest that apply without a cluster. `environment` is for every worker; times in seconds.

    `only_in_a_cluster` names the fields without an effect here, one line each.
    """

    name: str
    app: str
    order: ScalingOrder
    drain_timeout_seconds: int
    redis: ManifestRedis
    key_prefix: str
    environment: Mapping[str, str]
    owner: Owner
    schedules: tuple[WantedSchedule, ...] = ()
    only_in_a_cluster: tuple[str, ...] = ()


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
        "TASK_QUEUE_SCHEDULER": "true" if spec.scheduler.mode == "Enabled" else "false",
        "PYTHONPATH": os.pathsep.join(
            part for part in (os.getcwd(), str(folder.resolve()), os.environ.get("PYTHONPATH", "")) if part
        ),
        "PYTHONUNBUFFERED": "1",
        "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "1",  # cheap for a few workers, and keeps the table current
    }
    owner = Owner(_NO_NAMESPACE, manifest.metadata.name, "")
    return LocalPlan(
        owner=owner,
        schedules=tuple(wanted_of(manifest, owner)),
        name=manifest.metadata.name or "taskqueue",
        app=spec.worker.app,
        order=order_of(manifest),
        drain_timeout_seconds=spec.worker.drain_timeout_seconds,
        redis=redis_of(spec.redis),
        key_prefix=spec.redis.key_prefix,
        environment=environment,
        only_in_a_cluster=tuple(_only_in_a_cluster(manifest)),
    )


def _only_in_a_cluster(manifest: TaskQueueResource) -> Iterator[str]:
    spec = manifest.spec
    containers = _maps(_map(spec.worker.template.get("spec")).get("containers"))
    if any(one.get("name") != "worker" for one in containers):
        yield "spec.worker.template: containers beside the worker do not run here"
    if spec.worker.template.get("spec", {}).get("initContainers"):
        yield "spec.worker.template: initContainers do not run here"


def _plain_variables(template: Mapping[str, Any]) -> dict[str, str]:
    """The environment that the pod template gives the worker by value; references need a cluster."""
    containers = _maps(_map(template.get("spec")).get("containers"))
    variables = [entry for one in containers if one.get("name") == "worker" for entry in _maps(one.get("env"))]
    return {str(entry.get("name")): str(entry["value"]) for entry in variables if "value" in entry}


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: Any) -> list[dict[str, Any]]:
    """The maps of a list in a template, whose content only a cluster checks."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
