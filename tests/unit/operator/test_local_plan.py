"""The Redis of a manifest on this machine, and the fields that only a cluster has a use for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.kept_schedules import Owner
from taskfleet_operator.local.plan import LocalPlan, plan_of
from taskfleet_operator.resource.manifest import parse
from tests.support.manifests import REF, SCHEDULE, changed

R, W = "spec.redis", "spec.worker"
SENTINEL = {"masterName": "m", "addresses": ["s0:26379", "[::1]:26379"], "passwordSecretRef": REF}
TLS = {"mode": "Enabled", "caSecretRef": REF, "clientCertSecretName": "client", "serverName": "redis.example"}


def plan(changes: dict[str, Any]) -> LocalPlan:
    return plan_of(parse(changed(changes), "orders.yaml"), Path())


@pytest.mark.parametrize(
    ("redis", "url"),
    [
        ({"url": "redis://r:6380/2"}, "redis://r:6380/2"),
        ({"mode": "Sentinel", "sentinel": SENTINEL}, "redis+sentinel://s0:26379,[::1]:26379/m"),
        ({"mode": "Cluster", "cluster": {"addresses": ["c0:6379", "c1:6379"]}}, "redis+cluster://c0:6379,c1:6379"),
    ],
)
def test_every_mode_has_an_address_here(redis: dict[str, Any], url: str) -> None:
    assert plan({R: redis}).redis.here.url == url


def test_a_secret_that_is_no_variable_is_named_in_one_line() -> None:
    redis = plan({R: {"mode": "Sentinel", "sentinel": SENTINEL, "auth": {"passwordSecretRef": REF}, "tls": TLS}}).redis
    names = [line.partition(" ")[0] for line in redis.missing({})]
    assert names == [
        "spec.redis.auth.passwordSecretRef", "spec.redis.sentinel.passwordSecretRef", "spec.redis.tls.caSecretRef",
        "spec.redis.tls.clientCertSecretName",
    ]  # fmt: skip
    given = {
        "TASKFLEET_REDIS__PASSWORD_FILE": "p", "TASKFLEET_REDIS__SENTINEL_PASSWORD": "s",
        "TASKFLEET_REDIS__TLS_CA_FILE": "ca", "TASKFLEET_REDIS__TLS_CERT_FILE": "crt",
    }  # fmt: skip
    assert redis.missing(given) == []
    assert (
        plan({R: {"urlSecretRef": REF}})
        .redis.missing({})[0]
        .startswith("spec.redis.urlSecretRef is in a cluster: set REDIS_URL")
    )


def test_workers_and_this_process_connect_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_REDIS__TLS_CA_FILE", "/ca.pem")
    redis = plan(
        {f"{R}.tls": {"mode": "Enabled", "serverName": "redis.example"}, f"{R}.auth": {"username": "me"}}
    ).redis
    assert redis.here.environment == {
        "TASKFLEET_REDIS__USERNAME": "me",
        "TASKFLEET_REDIS__TLS": "true",
        "TASKFLEET_REDIS__TLS_SERVER_NAME": "redis.example",
    }
    options = redis.here.broker(pool_size=1).client.options
    assert options.tls is not None
    assert (options.tls.server_name, str(options.tls.ca_file), options.pool_size) == ("redis.example", "/ca.pem", 1)
    assert options.login == {"username": "me"}


def test_what_only_a_cluster_does_is_told() -> None:
    template = {"spec": {"containers": [{"name": "worker"}, {"name": "logs"}], "initContainers": [{"name": "fetch"}]}}
    assert len(plan({f"{W}.template": template}).only_in_a_cluster) == 2
    assert plan({}).only_in_a_cluster == ()
    assert plan({"spec.scheduler": {"mode": "Disabled"}}).environment["TASK_QUEUE_SCHEDULER"] == "false"


def test_the_schedules_are_kept_and_are_not_the_operators() -> None:
    found = plan({"spec.schedules": [SCHEDULE], "spec.suspend": True})
    (one,) = found.schedules
    assert (one.name, one.partition, one.spec.paused, found.only_in_a_cluster) == ("nightly", "default", True, ())
    assert one.spec.owner == "taskfleet up/orders/"
    assert not found.owner.is_same_place(Owner("default", "orders", "uid"))
    with pytest.raises(ConfigurationError, match=r"spec.schedules\[0\]"):
        plan({"spec.schedules": [SCHEDULE | {"schedule": "61 * * * *"}]})


@pytest.mark.parametrize("spec", [{"containers": "x"}, {"containers": ["x", {"name": "worker", "env": "x"}]}, {}])
def test_a_template_that_is_none_is_left_to_the_cluster(spec: dict[str, Any]) -> None:
    assert "TASKFLEET_QUEUES" in plan({f"{W}.template": {"spec": spec}}).environment
