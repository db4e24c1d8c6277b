"""All checks of one TaskQueue: those of the resource, and those that only the cluster can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from ..children import KINDS
from ..children.child_kind import Child
from ..control.api.kubernetes_api import OPERATOR, ApiError
from ..resource.checks import Finding, check
from ..resource.redis_spec import RedisSpec
from ..resource.taskqueue import TaskQueueResource

SECONDS = 4.0
"""For the questions to the cluster; the API server waits for the webhook for 10 s."""

_FIELDS = {"Deployment": "spec.worker.template", "PodDisruptionBudget": "spec.worker.podDisruptionBudget"}
"""The kinds whose content a user writes, with the field of the TaskQueue."""


class Cluster(Protocol):
    """The calls of `KubernetesApi` that the checks make."""

    async def dry_run_apply(self, body: Child, manager: str) -> Child: ...

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Child | None: ...


async def examine(queue: TaskQueueResource, cluster: Cluster) -> list[Finding]:
    """The findings. What the cluster cannot answer in time is a warning: the reconciler asks again."""
    found = check(queue.spec)
    if found:
        return found
    try:
        async with asyncio.timeout(SECONDS):
            return [*await _children(queue, cluster), *await _secrets(queue, cluster)]
    except (ApiError, OSError, TimeoutError) as error:
        words = str(error) or "the API server did not answer in time"
        return [Finding("spec", f"not checked against the cluster: {words}", warning=True)]


async def _children(queue: TaskQueueResource, cluster: Cluster) -> list[Finding]:
    found: list[Finding] = []
    for kind in KINDS:
        child = kind.build(queue, {}) if kind.kind in _FIELDS else None
        if child is None:
            continue
        try:
            await cluster.dry_run_apply(child, OPERATOR)
        except ApiError as error:
            if not error.invalid and error.status != 403:
                raise
            # A quota or an admission webhook of the cluster may let it pass later.
            found.append(Finding(_FIELDS[kind.kind], str(error), warning=not error.invalid))
    return found


async def _secrets(queue: TaskQueueResource, cluster: Cluster) -> list[Finding]:
    found: list[Finding] = []
    namespace = queue.metadata.namespace or "default"
    for field, name, key in _references(queue.spec.redis):
        secret = await cluster.get("v1", "Secret", namespace, name)
        if secret is None:
            found.append(Finding(field, f"secret {name!r} is not there yet", warning=True))
        elif key and key not in (secret.get("data") or {}):
            found.append(Finding(field, f"secret {name!r} has no key {key!r} yet", warning=True))
    return found


def _references(redis: RedisSpec) -> Iterator[tuple[str, str, str]]:
    """(field, secret, key) of each secret that `spec.redis` names."""
    named = {
        "urlSecretRef": redis.url_secret_ref,
        "auth.passwordSecretRef": redis.auth.password_secret_ref if redis.auth else None,
        "sentinel.passwordSecretRef": redis.sentinel.password_secret_ref if redis.sentinel else None,
        "tls.caSecretRef": redis.tls.ca_secret_ref,
    }
    for field, reference in named.items():
        if reference is not None:
            yield f"spec.redis.{field}", reference.name, reference.key
    if redis.tls.client_cert_secret_name:
        yield "spec.redis.tls.clientCertSecretName", redis.tls.client_cert_secret_name, "tls.crt"
