"""How the operator reaches the Redis of a TaskQueue: from `spec.redis` and its secrets, seen from another namespace.

TaskQueues with equal credentials share one broker.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from taskfleet.errors import ConfigurationError
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.credentials import AccessFileError
from taskfleet.redis.tls import Tls
from taskfleet.redis.url_options import UrlError

from ...children.secret_digest import digest_of
from ...resource.redis_spec import RedisSpec, SecretKeyRef, TlsSpec
from ...resource.taskqueue import TaskQueueResource
from .secrets import Secret

_CLUSTER_DOMAIN = ".cluster.local"
_CERTIFICATE, _KEY = "tls.crt", "tls.key"  # the keys of a secret of type kubernetes.io/tls

ReadSecret = Callable[[str], Awaitable[Secret | None]]
"""Reads a secret by its name, in the namespace of the TaskQueue."""


class MissingSecretError(Exception):
    """A secret that the TaskQueue names, or its key, does not exist or has no usable value."""


@dataclass(frozen=True)
class RedisCredentials:
    """The address of one Redis and the login for it. `digests` maps `secret/key` to a digest, for the pods' hash."""

    url: str = field(repr=False)  # one of a secret may hold a password
    prefix: str
    username: str | None
    password: str | None = field(repr=False)
    pool_size: int
    connect_timeout: float
    command_timeout: float
    digests: dict[str, str] = field(default_factory=dict, hash=False)
    sentinel_password: str | None = field(default=None, repr=False, kw_only=True)
    tls: Tls | None = field(default=None, kw_only=True)

    def connect(self) -> RedisBroker:
        login = {name: value for name, value in (("username", self.username), ("password", self.password)) if value}
        return RedisBroker.from_url(
            self.url,
            prefix=self.prefix,
            pool_size=self.pool_size,
            connect_timeout=self.connect_timeout,
            command_timeout=self.command_timeout,
            login=login,
            sentinel_login={"password": self.sentinel_password} if self.sentinel_password else None,
            tls=self.tls,
        )


def secret_names(redis: RedisSpec) -> set[str]:
    """The secrets that `spec.redis` names."""
    references = [
        redis.url_secret_ref,
        redis.auth.password_secret_ref if redis.auth else None,
        redis.sentinel.password_secret_ref if redis.sentinel else None,
        redis.tls.ca_secret_ref,
    ]
    found = {reference.name for reference in references if reference is not None}
    return found | ({redis.tls.client_cert_secret_name} if redis.tls.client_cert_secret_name else set[str]())


async def credentials_of(queue: TaskQueueResource, read: ReadSecret) -> RedisCredentials:
    """The credentials in `spec.redis`. Raises `MissingSecretError` that names the secret and its key."""
    redis = queue.spec.redis
    namespace = queue.metadata.namespace or "default"
    values = _Values(namespace, read)
    url = await _url(redis, namespace, values)
    auth, sentinel = redis.auth, redis.sentinel
    return RedisCredentials(
        url=url,
        prefix=redis.key_prefix,
        username=auth.username if auth else None,
        password=await values.text(auth.password_secret_ref) if auth and auth.password_secret_ref else None,
        pool_size=max(4, redis.pool_size),
        connect_timeout=redis.connect_timeout_seconds,
        command_timeout=redis.command_timeout_seconds,
        sentinel_password=(
            await values.text(sentinel.password_secret_ref) if sentinel and sentinel.password_secret_ref else None
        ),
        tls=await _tls(redis.tls, values),
        digests=values.digests,
    )


class _Values:
    """Values of secrets, each with its digest."""

    def __init__(self, namespace: str, read: ReadSecret) -> None:
        self.digests: dict[str, str] = {}
        self._namespace = namespace
        self._read = read

    async def text(self, reference: SecretKeyRef) -> str:
        name, key = reference.name, reference.key
        secret = await self._read(name)
        if secret is None:
            raise MissingSecretError(f"secret {name!r} is not there; create it in namespace {self._namespace!r}")
        if key not in secret.data:
            raise MissingSecretError(f"secret {name!r} has no key {key!r}; add it")
        try:
            value = base64.b64decode(secret.data[key] or "")
            text = value.decode("utf-8").strip()
        except (binascii.Error, UnicodeDecodeError):
            raise MissingSecretError(f"secret {name!r}: key {key!r} is no UTF-8 text") from None
        # A secret that is deleted and made again with its value rolls nothing, so that its uid is no part of the salt.
        salt = f"{self._namespace}/{name}/{key}"
        self.digests[f"{name}/{key}"] = await asyncio.to_thread(digest_of, value, salt)
        return text

    async def pem(self, name: str, key: str) -> str:
        text = await self.text(SecretKeyRef(name=name, key=key))
        if not text.isascii() or "-----BEGIN " not in text:
            # An empty authority would mean those of the system.
            raise MissingSecretError(f"secret {name!r}: key {key!r} is no PEM text")
        return text


async def _url(redis: RedisSpec, namespace: str, values: _Values) -> str:
    if redis.sentinel is not None:
        addresses = [_seen(one, namespace) for one in redis.sentinel.addresses]
        return urls.sentinel(
            addresses, quote(redis.sentinel.master_name, safe=""), where="spec.redis.sentinel.addresses"
        )
    if redis.cluster is not None:
        addresses = [_seen(one, namespace) for one in redis.cluster.addresses]
        return urls.cluster(addresses, where="spec.redis.cluster.addresses")
    if redis.url_secret_ref is None:
        return seen_from_elsewhere(redis.url or "", namespace)
    reference = redis.url_secret_ref
    url = await values.text(reference)
    try:
        found = urls.parse(url)
    except ConfigurationError as error:
        # Everybody who may read the TaskQueue reads its status, so that no text of a secret is repeated there.
        said = error.without_values if isinstance(error, UrlError) else str(error)
        raise MissingSecretError(f"secret {reference.name!r}: key {reference.key!r}: {said}") from None
    if found.path and redis.tls.mode == "Enabled":
        said = "a Unix socket has no TLS; set spec.redis.tls.mode: Disabled"
        raise MissingSecretError(f"secret {reference.name!r}: key {reference.key!r}: {said}")
    return seen_from_elsewhere(url, namespace)


async def _tls(spec: TlsSpec, values: _Values) -> Tls | None:
    if spec.mode == "Disabled":
        return None
    reference, client = spec.ca_secret_ref, spec.client_cert_secret_name
    tls = Tls(
        server_name=spec.server_name,
        ca_data=await values.pem(reference.name, reference.key) if reference else "",
        cert_data=await values.pem(client, _CERTIFICATE) if client else "",
        key_data=await values.pem(client, _KEY) if client else "",
    )
    try:
        tls.context()
    except AccessFileError as error:
        names = " and ".join(repr(name) for name in (reference.name if reference else "", client) if name)
        raise MissingSecretError(f"spec.redis.tls: secret {names}: {error}") from None
    return tls


def site_of(url: str) -> str:
    """Where a URL leads to, without its login, and in one of its spellings.

    One server may still have several sites: only the server itself can tell (`RedisPlace`, `Purging`).
    """
    found = urls.parse(url)
    if found.path:
        return f"{found.path}/{found.database}"
    hosts = sorted(f"{_plain_host(host)}:{port}" for host, port in found.hosts)
    return f"{','.join(hosts)}/{found.master}/{found.database}"


def _plain_host(host: str) -> str:
    host = host.lower().rstrip(".")
    return host.removesuffix(_CLUSTER_DOMAIN) if host.endswith(f".svc{_CLUSTER_DOMAIN}") else host


def seen_from_elsewhere(url: str, namespace: str) -> str:
    """The URL with bare hosts completed by the namespace.

    Workers find the Service `redis` of their own namespace by that name alone. The operator runs in another namespace.
    """
    parts = urlsplit(url)
    if not parts.netloc:
        return url  # a socket
    user, at, addresses = parts.netloc.rpartition("@")
    seen = ",".join(_seen(one, namespace) for one in addresses.split(","))
    return urlunsplit(parts._replace(netloc=f"{user}{at}{seen}"))


def _seen(address: str, namespace: str) -> str:
    host, colon, port = address.partition(":")
    if not host or host.startswith("[") or "." in host or host.lower() == "localhost":
        return address
    return f"{host}.{namespace}.svc{colon}{port}"
