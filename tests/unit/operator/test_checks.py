"""The checks of a TaskQueue that the schema cannot express."""

from __future__ import annotations

import copy
import re
from typing import Any

import pydantic
import pytest

from taskfleet_operator.resource.checks import check
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD

BAD_HOSTS = ("[:::]", "[....]", "[1.2.3.4]")
BAD_NAMES = ("a..b", ".", "a" * 64, f"{'b' * 64}.shop")


def findings(redis: dict[str, Any]) -> list[str]:
    body = copy.deepcopy(GOOD)
    body["spec"]["redis"] = redis
    return [str(one) for one in check(TaskQueueResource.model_validate(body).spec)]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_an_address_that_no_resolver_takes_is_named_with_its_field(host: str) -> None:
    """The schema lets them pass: a regular expression for IPv6 addresses would have a thousand characters."""
    addresses = ["redis-0.redis:6379", f"{host}:6379"]
    (told,) = findings({"mode": "Sentinel", "sentinel": {"masterName": "main", "addresses": addresses}})
    assert told.startswith("spec.redis.sentinel.addresses[1]: ")
    assert "neither a name nor an address" in told
    (told,) = findings({"mode": "Cluster", "cluster": {"addresses": addresses}})
    assert told.startswith("spec.redis.cluster.addresses[1]: ")
    (told,) = findings({"url": f"redis://{host}:6379"})
    assert told.startswith("spec.redis.url: ")


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("field", ["sentinel.addresses.1", "cluster.addresses.1", "url"])
def test_a_name_that_no_resolver_takes_is_refused_by_the_schema(name: str, field: str) -> None:
    addresses = ["redis:6379", f"{name}:6379"]
    redis = {
        "sentinel": {"mode": "Sentinel", "sentinel": {"masterName": "main", "addresses": addresses}},
        "cluster": {"mode": "Cluster", "cluster": {"addresses": addresses}},
        "url": {"url": f"redis://{name}:6379"},
    }
    with pytest.raises(pydantic.ValidationError, match=re.escape(field)):
        findings(redis[field.split(".")[0]])


def test_good_addresses_have_no_finding() -> None:
    addresses = ["redis:6379", "redis_0.shop.svc.:6379", "[fd00::7]:6379", "10.0.0.7:1", f"{'a' * 63}.b:1"]
    assert not findings({"mode": "Cluster", "cluster": {"addresses": addresses}})
    assert not findings({"mode": "Sentinel", "sentinel": {"masterName": "main", "addresses": addresses}})
