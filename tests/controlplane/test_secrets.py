"""Secrets and every kind of Redis: the operator reads the queues through TLS, Sentinels and a Cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.support import requirements
from tests.support.certificates import Certificates
from tests.support.operator_space import NAME, Manifest, Space, settled, told, until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, binary_with_tls
from tests.support.redis_topologies import RedisCluster, SentinelTrio


def secret(space: Space, name: str, **values: str | bytes) -> None:
    data = {
        key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
        for key, value in values.items()
    }
    space.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})


def reached(space: Space) -> bool:
    return space.condition("RedisReachable").get("status") == "True"


def config_hash(space: Space) -> str:
    template = space.get("deployment", NAME)["spec"]["template"]
    return str(template["metadata"]["annotations"]["taskfleet.io/config-hash"])


@pytest.fixture
def tls(tmp_path: Path, pytestconfig: pytest.Config) -> tuple[str, Certificates]:
    program = binary_with_tls()
    if program is None:
        requirements.cannot_run(pytestconfig, "TLS", "no Redis with TLS on this machine")
    folder = tmp_path / "certificates"
    folder.mkdir()
    return program, Certificates(folder)


def under_tls(space: Space, made: Certificates) -> dict[str, Any]:
    secret(space, "ca", **{"ca.crt": made.ca.read_bytes()})
    secret(space, "client", **{"tls.crt": made.client.read_bytes(), "tls.key": made.client_key.read_bytes()})
    return {"mode": "Enabled", "caSecretRef": {"name": "ca", "key": "ca.crt"}, "clientCertSecretName": "client"}


def test_a_standalone_redis_with_tls_and_a_password_that_rotates(
    operator: object, space: Space, manifest: Manifest, tls: tuple[str, Certificates]
) -> None:
    program, made = tls
    port = free_port()
    with RedisServer(*made.options(port), "--requirepass", "first", program=program) as server:
        server.login = {"password": "first"}
        server_name = {**under_tls(space, made), "serverName": "redis.test"}
        secret(space, "login", password="first", other="1")
        manifest["spec"]["redis"] |= {
            "url": f"redis://127.0.0.1:{port}/0",
            "tls": server_name,
            "auth": {"passwordSecretRef": {"name": "login", "key": "password"}},
        }
        space.apply(manifest)
        until(lambda: reached(space), "the queues are read")
        before = config_hash(space)
        server.call("CONFIG", "SET", "requirepass", "second")
        secret(space, "login", password="second", other="2")
        until(lambda: config_hash(space) != before, "the new password reaches the workers", seconds=60)
        until(lambda: reached(space) and settled(space), "the operator has it too")


def test_sentinels_with_a_password(operator: object, space: Space, manifest: Manifest) -> None:
    with SentinelTrio(password="watch") as trio:
        secret(space, "sentinel", password="watch")
        manifest["spec"]["redis"] = {
            "mode": "Sentinel",
            "sentinel": {
                "masterName": "mymaster",
                "addresses": trio.addresses,
                "passwordSecretRef": {"name": "sentinel", "key": "password"},
            },
        }
        space.apply(manifest)
        until(lambda: reached(space), "the queues are read")


def test_a_cluster_with_tls(operator: object, space: Space, manifest: Manifest, tls: tuple[str, Certificates]) -> None:
    program, made = tls
    with RedisCluster(program=program, tls=made) as cluster:
        manifest["spec"]["redis"] = {
            "mode": "Cluster",
            "cluster": {"addresses": [f"127.0.0.1:{node.tls_port}" for node in cluster.masters]},
            "tls": under_tls(space, made),
        }
        space.apply(manifest)
        until(lambda: reached(space), "the queues are read")


def test_a_certificate_that_cannot_be_used_is_named(
    operator: object, space: Space, manifest: Manifest, tmp_path: Path
) -> None:
    made = Certificates(tmp_path)
    secret(space, "ca", **{"ca.crt": b"-----BEGIN NOTHING"})
    manifest["spec"]["redis"]["tls"] = {"mode": "Enabled", "caSecretRef": {"name": "ca", "key": "ca.crt"}}
    space.apply(manifest)
    assert told(space, "Ready", "SecretMissing").startswith("spec.redis.tls: secret 'ca': the CA: ")
    secret(space, "ca", **{"ca.crt": made.ca.read_bytes()})
    # It is well-formed now, and the server speaks no TLS.
    until(lambda: space.condition("RedisReachable").get("status") == "False", "it is tried", seconds=60)


def test_a_lost_secret_heals_by_itself_and_another_key_rolls_nothing(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer
) -> None:
    manifest["spec"]["redis"] = {
        "urlSecretRef": {"name": "address", "key": "url"},
        "keyPrefix": manifest["spec"]["redis"]["keyPrefix"],
    }
    space.apply(manifest)
    assert "secret 'address' is not there" in told(space, "Ready", "SecretMissing")
    secret(space, "address", url=redis_server.url, other="1")
    until(lambda: settled(space), "it heals by itself", seconds=60)
    before = config_hash(space)
    space("delete", "secret", "address")
    told_again = until(lambda: space.condition("Ready").get("reason") == "SecretMissing", "it is told", seconds=60)
    assert told_again
    secret(space, "address", url=redis_server.url, other="2")
    until(lambda: settled(space), "it heals again", seconds=60)
    assert config_hash(space) == before
