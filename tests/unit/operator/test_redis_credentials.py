"""The same Redis, seen from the workers' namespace and from the operator's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from taskfleet_operator.control.redis.redis_credentials import (
    MissingSecretError,
    RedisCredentials,
    credentials_of,
    secret_names,
    seen_from_elsewhere,
    site_of,
)
from taskfleet_operator.control.redis.secrets import Secret
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.certificates import Certificates


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
        ("redis://worker@REDIS", "redis://worker@REDIS.shop.svc"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (
            "redis+sentinel://u:p@a:26379,b.cache:1,[::1]:2/main/0",
            "redis+sentinel://u:p@a.shop.svc:26379,b.cache:1,[::1]:2/main/0",
        ),
        ("redis+cluster://a,b:7000", "redis+cluster://a.shop.svc,b.shop.svc:7000"),
    ],
)
def test_a_bare_host_is_a_service_of_the_task_queues_namespace(url: str, seen: str) -> None:
    assert seen_from_elsewhere(url, "shop") == seen


def secret(**values: bytes) -> Secret:
    return Secret({name: base64.b64encode(value).decode() for name, value in values.items()})


async def found(redis: dict[str, Any], /, **secrets: Secret) -> RedisCredentials:
    spec = {
        "redis": redis,
        "queues": [{"name": "default"}],
        "worker": {"image": "shop:1", "app": "shop:queue"},
        "autoscaler": {"minReplicas": 0, "maxReplicas": 1},
    }
    queue = TaskQueueResource.model_validate({"metadata": {"name": "orders", "namespace": "shop"}, "spec": spec})
    asked: set[str] = set()

    async def read(name: str) -> Secret | None:
        asked.add(name)
        return secrets.get(name)

    credentials = await credentials_of(queue, read)
    assert asked == secret_names(queue.spec.redis)
    return credentials


URL = {"urlSecretRef": {"name": "redis", "key": "url"}}


async def test_a_socket_has_no_tls() -> None:
    with pytest.raises(MissingSecretError, match=r"secret 'redis': key 'url': a Unix socket has no TLS"):
        await found(URL | {"tls": {"mode": "Enabled"}}, redis=secret(url=b"unix:///run/redis.sock"))


async def test_a_url_in_a_secret_is_checked() -> None:
    assert (await found(URL, redis=secret(url=b"redis://u:p@redis.cache/1\n"))).url == "redis://u:p@redis.cache/1"
    for value, problem in [  # no text of the secret is in the message
        (b"redis://host/hidden", "database (not shown) is not a number"),
        (b"redis://u:hid@den@host", "percent-encode it"),
        (b"", "it is empty"),
        (b"redis://[::1", "its brackets do not match"),
        (b"redis://[bad", "its brackets do not match"),
        (b"redis://host?hidden=1", "option (not shown) is not known"),
        (b"redis://host?db=hidden", "not a number"),
        (b"redis://host?protocol=hidden", "(not shown)"),
        (b"redis://host:99999", "not a number of 1 to 65535"),
        # A text with both quotes is shown with one of them escaped, and one with many characters is cut.
        (b"redis://host/'\"hidden", "database (not shown) is not a number"),
        (b"redis://host?db='\"hidden", "database (not shown) is not a number"),
        (b"redis+sentinel://host/main/'\"hidden'", "database (not shown) is not a number"),
        (b"redis+sentinel://host/main?'\"hidden", "option (not shown) is not known"),
        (b"redis://host?'\"hidden=1", "option (not shown) is not known"),
        (b"redis://host?socket_timeout='\"hidden", "socket_timeout=(not shown) is not known"),
        (b"redis://host?'" + b'hidden"' * 30, "option (not shown) is not known"),
        (b"hidden://host", "scheme (not shown) is not known"),
    ]:
        with pytest.raises(MissingSecretError) as caught:
            await found(URL, redis=secret(url=value))
        assert str(caught.value).startswith("secret 'redis': key 'url': Redis URL")
        assert problem in str(caught.value)
        assert "hid" not in str(caught.value)


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ({}, "secret 'redis' is not there; create it in namespace 'shop'"),
        ({"redis": Secret({"other": ""})}, "secret 'redis' has no key 'url'; add it"),
        ({"redis": secret(url=b"\xff")}, "secret 'redis': key 'url' is no UTF-8 text"),
        ({"redis": Secret({"url": "no base64!"})}, "secret 'redis': key 'url' is no UTF-8 text"),
    ],
)
async def test_a_secret_that_is_missing_is_named(secrets: dict[str, Secret], problem: str) -> None:
    with pytest.raises(MissingSecretError) as caught:
        await found(URL, **secrets)
    assert str(caught.value) == problem


async def test_sentinels_and_cluster_nodes_are_services_of_the_task_queues_namespace() -> None:
    sentinel = {"masterName": "my?master", "addresses": ["s0:26379", "s1.cache.svc:26379"]}
    sentinel["passwordSecretRef"] = {"name": "sentinel", "key": "password"}  # type: ignore[assignment]
    login = {"username": "worker", "passwordSecretRef": {"name": "redis", "key": "password"}}
    credentials = await found(
        {"mode": "Sentinel", "sentinel": sentinel, "auth": login},
        sentinel=secret(password=b"watch"),
        redis=secret(password=b"work\n"),
    )
    assert credentials.url == "redis+sentinel://s0.shop.svc:26379,s1.cache.svc:26379/my%3Fmaster"
    assert (credentials.username, credentials.password, credentials.sentinel_password) == ("worker", "work", "watch")
    assert set(credentials.digests) == {"sentinel/password", "redis/password"}
    assert "watch" not in repr(credentials)
    cluster = {"mode": "Cluster", "cluster": {"addresses": ["c0:6379", "10.0.0.7:7000"]}}
    assert (await found(cluster)).url == "redis+cluster://c0.shop.svc:6379,10.0.0.7:7000"


async def test_certificates_come_from_secrets(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    tls = {
        "mode": "Enabled",
        "caSecretRef": {"name": "ca", "key": "ca.crt"},
        "clientCertSecretName": "client",
        "serverName": "redis.test",
    }
    redis = {"url": "redis://redis:6379/0", "tls": tls}
    ca = secret(**{"ca.crt": made.ca.read_bytes()})
    client = secret(**{"tls.crt": made.client.read_bytes(), "tls.key": made.client_key.read_bytes()})
    credentials = await found(redis, ca=ca, client=client)
    assert credentials.tls is not None
    assert len(credentials.tls.context().get_ca_certs()) == 1
    assert credentials.tls.server_name == "redis.test"
    assert "PRIVATE" not in repr(credentials)
    assert await found(redis, ca=ca, client=client) == credentials  # so that they share one broker
    other = secret(**{"tls.crt": made.client.read_bytes(), "tls.key": made.server_key.read_bytes()})
    for bad, problem in [
        ({"ca": secret(**{"ca.crt": b""}), "client": client}, "secret 'ca': key 'ca.crt' is no PEM text"),
        (
            {"ca": secret(**{"ca.crt": b"-----BEGIN X\n"}), "client": client},
            "spec.redis.tls: secret 'ca' and 'client': ",
        ),
        ({"ca": ca, "client": other}, "the client certificate: no usable certificate or key"),
        ({"ca": ca, "client": secret(**{"tls.crt": made.client.read_bytes()})}, "secret 'client' has no key 'tls.key'"),
    ]:
        with pytest.raises(MissingSecretError) as caught:
            await found(redis, **bad)
        assert problem in str(caught.value)


async def test_a_secret_made_again_with_its_value_has_the_same_digest() -> None:
    one, other = [await found(URL, redis=secret(url=b"redis://a.b", x=x)) for x in (b"1", b"2")]
    assert one.digests == other.digests
    assert (await found(URL, redis=secret(url=b"redis://a.c"))).digests != one.digests


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://u:p@redis.shop.svc:6379/0", "redis://redis.shop.svc", True),
        ("redis://REDIS.shop.svc.", "redis://redis.shop.svc.cluster.local:6379", True),
        ("redis+cluster://a.b,c.d", "redis+cluster://c.d:6379,a.b", True),
        ("unix:///a", "unix:///a?db=0", True),
        ("redis://redis.shop.svc/0", "redis://redis.shop.svc/1", False),
        ("redis://redis.shop.svc", "redis://redis.mail.svc", False),
        ("redis+sentinel://s.x/one", "redis+sentinel://s.x/two", False),
        ("redis://cluster.local", "redis://redis", False),
    ],
)
def test_spellings_of_one_address(one: str, other: str, same: bool) -> None:
    assert (site_of(one) == site_of(other)) is same
