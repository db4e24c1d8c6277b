"""The pods of the workers: the generated template, and the user's over it."""

from __future__ import annotations

from typing import Any

from ..resource.taskqueue import TaskQueueResource
from . import config_map, names
from .redis_access import access_of
from .strategic_merge import strategic

ADMITTED = "taskfleet.io/admitted"
"""The readiness gate of pods that are updated by `Drain`: the operator sets it when the pod may take an old one's
place. Such a pod claims tasks before that."""
WORKER_CONTAINER = "worker"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes: into the Deployment, which is kubectl's, or by hand into the TaskQueue."""
RESTARTED = "taskfleet.io/restarted-at"
"""What the operator writes in its place. It never owns kubectl's annotation, so both ways roll the pods once."""

_KILL_MARGIN_SECONDS = 15  # between the end of the drain and the kubelet's SIGKILL
_USER = 65532


def pod_template(queue: TaskQueueResource) -> dict[str, Any]:
    """The template without the hash. Nothing in it is shared with the resource."""
    base = {
        "metadata": {
            "labels": names.labels(queue),
            # /tmp would keep the cluster autoscaler from ever removing the node.
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes": "tmp"},
        },
        "spec": _pod(queue),
    }
    merged: dict[str, Any] = strategic(base, queue.spec.worker.template)
    metadata = merged.setdefault("metadata", {})
    # A template cannot change the labels by which the Deployment and the operator find the pods.
    metadata["labels"] = {**_map(metadata.get("labels")), **names.labels(queue)}
    metadata["annotations"] = _map(metadata.get("annotations"))
    restarts = [metadata["annotations"].pop(RESTARTED_AT, None), queue.metadata.annotations.get(RESTARTED_AT)]
    if any(restarts):
        metadata["annotations"][RESTARTED] = " ".join(str(one) for one in restarts if one)
    return merged


def _map(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _pod(queue: TaskQueueResource) -> dict[str, Any]:
    worker = queue.spec.worker
    access = access_of(queue.spec.redis)
    pod: dict[str, Any] = {
        "serviceAccountName": names.worker_name(queue),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": worker.drain_timeout_seconds + _KILL_MARGIN_SECONDS,
        "securityContext": _security(queue),
        "containers": [_container(queue, access.env, access.mounts)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *access.volumes],
    }
    if worker.topology_spread.mode == "Enabled":
        pod["topologySpreadConstraints"] = [
            _spread(queue, "kubernetes.io/hostname"),
            _spread(queue, "topology.kubernetes.io/zone"),
        ]
    if worker.update_strategy.type == "Drain":
        pod["readinessGates"] = [{"conditionType": ADMITTED}]
    return pod


def _security(queue: TaskQueueResource) -> dict[str, Any]:
    context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if queue.spec.worker.security_profile == "Restricted":
        context |= {"runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER}
    return context


def _spread(queue: TaskQueueResource, key: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(queue)},
    }


def _container(queue: TaskQueueResource, access: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    worker = queue.spec.worker
    return {
        "name": WORKER_CONTAINER,
        "image": worker.image,
        "command": ["taskfleet"],
        "args": [
            "worker", worker.app, "--queues", ",".join(one.name for one in queue.spec.queues),
            "--concurrency", str(worker.concurrency), "--processes", str(worker.processes),
            "--probe-port", str(names.PROBE_PORT),
        ],
        "env": [*access, *_settings(queue)],
        "ports": [{"name": "probes", "containerPort": names.PROBE_PORT, "protocol": "TCP"}],
        # Interpreters start slowly on a crowded node. The liveness probe counts only after the first success.
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        # The last line of a worker that cannot start is then in the pod's status, where the operator reads it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108 - the only writable directory
    }  # fmt: skip


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "probes"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _settings(queue: TaskQueueResource) -> list[dict[str, Any]]:
    plain = {
        "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": str(queue.spec.worker.drain_timeout_seconds),
        "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "2",
        "TASK_QUEUE_SCHEDULER": "true" if queue.spec.scheduler.mode == "Enabled" else "false",
    }
    options = {"name": names.worker_name(queue), "key": config_map.QUEUES_KEY}
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        {"name": "TASKFLEET_WORKER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TASKFLEET_QUEUES", "valueFrom": {"configMapKeyRef": options}},
    ]
