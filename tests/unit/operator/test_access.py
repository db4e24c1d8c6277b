"""The same Redis, seen from the workers' namespace and from the operator's."""

from __future__ import annotations

import pytest

from taskfleet_operator.control.access import seen_from_elsewhere


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
