"""The Deployment of the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..resource.taskqueue import TaskQueueResource
from . import config_map, names
from .child_kind import Child, ChildKind
from .strategic_merge import strategic

HASH_ANNOTATION = "taskfleet.io/config-hash"
RESTART_ANNOTATION = "kubectl.kubernetes.io/restartedAt"
_SECRETS = "/etc/taskfleet/redis"
_KILL_MARGIN_SECONDS = 15  # between the end of the drain and the kubelet's SIGKILL


def _build(queue: TaskQueueResource, secrets: Mapping[str, str]) -> Child:
    """The Deployment. Its hash covers everything that a worker reads, so that only such a change rolls the pods."""
    template = _pod_template(queue)
    read = json.dumps([template, config_map.data(queue), sorted(secrets.items())], sort_keys=True)
    annotations = template["metadata"].setdefault("annotations", {})
    annotations[HASH_ANNOTATION] = hashlib.sha256(read.encode()).hexdigest()[:16]
    if restarted := queue.metadata.annotations.get(RESTART_ANNOTATION):
        annotations[RESTART_ANNOTATION] = restarted
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(queue),
        "spec": {
            "selector": {"matchLabels": names.selector(queue)},
            "strategy": _strategy(queue),
            "revisionHistoryLimit": 3,
            "template": template,
        },
    }


def _strategy(queue: TaskQueueResource) -> dict[str, Any]:
    update = queue.spec.worker.update_strategy.rolling_update
    surge, unavailable = ("25%", 0) if update is None else (update.max_surge, update.max_unavailable)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _pod_template(queue: TaskQueueResource) -> dict[str, Any]:
    worker = queue.spec.worker
    container: dict[str, Any] = {
        "name": "worker",
        "image": worker.image,
        "command": ["taskfleet"],
        "args": [
            "worker", worker.app, "--concurrency", str(worker.concurrency), "--processes", str(worker.processes),
            "--probe-port", str(names.PROBE_PORT),
        ],
        "env": _environment(queue),
        "ports": [{"name": "probes", "containerPort": names.PROBE_PORT, "protocol": "TCP"}],
        # Interpreters start slowly on a crowded node. The liveness probe counts only after the first success.
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the only writable directory
    }  # fmt: skip
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    auth = queue.spec.redis.auth
    if auth is not None and auth.password_secret_ref is not None:
        reference = auth.password_secret_ref
        container["volumeMounts"].append({"name": "redis-password", "mountPath": _SECRETS, "readOnly": True})
        volumes.append(
            {
                "name": "redis-password",
                "secret": {"secretName": reference.name, "items": [{"key": reference.key, "path": "password"}]},
            }
        )
    base = {
        "metadata": {"labels": names.labels(queue)},
        "spec": {
            "serviceAccountName": names.worker_name(queue),
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": worker.drain_timeout_seconds + _KILL_MARGIN_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        },
    }
    merged: dict[str, Any] = strategic(base, worker.template)
    # A template cannot change the labels by which the Deployment and the operator find the pods.
    merged["metadata"]["labels"] = {**merged["metadata"].get("labels", {}), **names.labels(queue)}
    return merged


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "probes"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _environment(queue: TaskQueueResource) -> list[dict[str, Any]]:
    redis = queue.spec.redis
    name = names.worker_name(queue)
    entries: list[dict[str, Any]] = []
    if redis.url_secret_ref is not None:
        reference = {"name": redis.url_secret_ref.name, "key": redis.url_secret_ref.key}
        entries.append({"name": "REDIS_URL", "valueFrom": {"secretKeyRef": reference}})
    else:
        entries.append({"name": "REDIS_URL", "value": redis.url})
    plain: dict[str, Any] = {
        "REDIS_POOL_SIZE": redis.pool_size,
        "REDIS_CONNECTION_TIMEOUT": redis.connect_timeout_seconds,
        "REDIS_COMMAND_TIMEOUT": redis.command_timeout_seconds,
        "TASKFLEET_REDIS__KEY_PREFIX": redis.key_prefix,
        "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": queue.spec.worker.drain_timeout_seconds,
        "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": 2,
    }
    if redis.auth is not None:
        if redis.auth.username is not None:
            plain["TASKFLEET_REDIS__USERNAME"] = redis.auth.username
        if redis.auth.password_secret_ref is not None:
            plain["TASKFLEET_REDIS__PASSWORD_FILE"] = f"{_SECRETS}/password"
    entries += [{"name": key, "value": str(value)} for key, value in plain.items()]
    entries.append({"name": "TASKFLEET_WORKER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    options = {"name": name, "key": config_map.QUEUES_KEY}
    entries.append({"name": "TASKFLEET_QUEUES", "valueFrom": {"configMapKeyRef": options}})
    return entries


KIND = ChildKind("apps/v1", "Deployment", "deployments", _build, scaled=True)
