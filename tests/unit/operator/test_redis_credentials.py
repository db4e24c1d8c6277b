"""The same Redis, seen from the workers' namespace and from the operator's."""

from __future__ import annotations

import base64
from typing import Any, cast

import pytest

from taskfleet_operator.control.kubernetes_api import KubernetesApi
from taskfleet_operator.control.redis_credentials import MissingSecretError, credentials_of, seen_from_elsewhere
from taskfleet_operator.resource.taskqueue import TaskQueueResource


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("redis://redis:6379/0", "redis://redis.shop.svc:6379/0"),
        ("redis://redis", "redis://redis.shop.svc"),
        ("rediss://worker:p%40ss@redis:6380/1?protocol=3", "rediss://worker:p%40ss@redis.shop.svc:6380/1?protocol=3"),
        ("redis://redis.cache.svc:6379/0", "redis://redis.cache.svc:6379/0"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://10.0.0.7:6379/0", "redis://10.0.0.7:6379/0"),
        ("redis://[fd00::7]:6379/0", "redis://[fd00::7]:6379/0"),
    ],
)
def test_a_bare_host_is_a_service_of_the_task_queues_namespace(url: str, seen: str) -> None:
    assert seen_from_elsewhere(url, "shop") == seen


class OneSecret:
    """A cluster that returns one secret for every name."""

    def __init__(self, value: bytes) -> None:
        self._data = {"url": base64.b64encode(value).decode()}

    async def get(self, *_: Any) -> dict[str, Any]:
        return {"data": self._data}


async def reached(value: bytes) -> str:
    spec = {
        "redis": {"urlSecretRef": {"name": "redis", "key": "url"}},
        "queues": [{"name": "default"}],
        "worker": {"image": "shop:1", "app": "shop:queue"},
        "autoscaler": {"minReplicas": 0, "maxReplicas": 1},
    }
    queue = TaskQueueResource.model_validate({"metadata": {"name": "orders", "namespace": "shop"}, "spec": spec})
    return (await credentials_of(queue, cast("KubernetesApi", OneSecret(value)))).url


async def test_a_url_in_a_secret_is_checked() -> None:
    assert await reached(b"redis://u:p@redis.cache/1\n") == "redis://u:p@redis.cache/1"
    for value, problem in [
        (b"redis://host/x", "database 'x' is not a number"),
        (b"redis://u:hid@den@host", "percent-encode it"),
        (b"", "it is empty"),
        (b"redis://[::1", "its brackets do not match"),
    ]:
        with pytest.raises(MissingSecretError) as caught:
            await reached(value)
        assert str(caught.value).startswith("secret 'redis': key 'url': Redis URL: ")
        assert problem in str(caught.value)
        assert "hid" not in str(caught.value)
