"""Makes a broker from `spec.redis` and its secrets. TaskQueues with equal credentials share one broker."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from taskfleet.errors import ConfigurationError
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker

from ..children.secret_digest import digest_of
from ..resource.redis_spec import SecretKeyRef
from ..resource.taskqueue import TaskQueueResource
from .kubernetes_api import KubernetesApi


class MissingSecretError(Exception):
    """A secret that the TaskQueue names, or its key, does not exist or has no usable value."""


@dataclass(frozen=True)
class RedisCredentials:
    """The address of one Redis and the login for it. `digests` maps `secret/key` to a digest, for the pods' hash."""

    url: str
    prefix: str
    username: str | None
    password: str | None
    pool_size: int
    connect_timeout: float
    command_timeout: float
    digests: dict[str, str] = field(default_factory=dict, hash=False)

    def connect(self) -> RedisBroker:
        login = {name: value for name, value in (("username", self.username), ("password", self.password)) if value}
        return RedisBroker.from_url(
            self.url,
            prefix=self.prefix,
            pool_size=self.pool_size,
            connect_timeout=self.connect_timeout,
            command_timeout=self.command_timeout,
            login=login,
        )


async def credentials_of(queue: TaskQueueResource, cluster: KubernetesApi) -> RedisCredentials:
    """Read the secrets that `spec.redis` names. Raises `MissingSecretError` that names the secret and its key."""
    redis = queue.spec.redis
    namespace = queue.metadata.namespace or "default"
    digests: dict[str, str] = {}

    async def value_of(reference: SecretKeyRef) -> str:
        secret = await cluster.get("v1", "Secret", namespace, reference.name)
        if secret is None:
            raise MissingSecretError(f"secret {reference.name!r} is not there; create it in namespace {namespace!r}")
        encoded = (secret.get("data") or {}).get(reference.key)
        if encoded is None:
            raise MissingSecretError(f"secret {reference.name!r} has no key {reference.key!r}; add it")
        value = base64.b64decode(encoded)
        salt = f"{secret.get('metadata', {}).get('uid', '')}/{reference.key}"
        digests[f"{reference.name}/{reference.key}"] = await asyncio.to_thread(digest_of, value, salt)
        try:
            return value.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise MissingSecretError(f"secret {reference.name!r}: key {reference.key!r} is no UTF-8 text") from None

    url = redis.url or ""
    if redis.url_secret_ref is not None:
        reference = redis.url_secret_ref
        url = await value_of(reference)
        try:
            urls.parse(url)
        except ConfigurationError as error:
            raise MissingSecretError(f"secret {reference.name!r}: key {reference.key!r}: {error}") from None
    username = password = None
    if redis.auth is not None:
        username = redis.auth.username
        if redis.auth.password_secret_ref is not None:
            password = await value_of(redis.auth.password_secret_ref)
    return RedisCredentials(
        url=seen_from_elsewhere(url, namespace),
        prefix=redis.key_prefix,
        username=username,
        password=password,
        pool_size=max(4, redis.pool_size),
        connect_timeout=redis.connect_timeout_seconds,
        command_timeout=redis.command_timeout_seconds,
        digests=digests,
    )


def seen_from_elsewhere(url: str, namespace: str) -> str:
    """The URL with a bare host completed by the namespace.

    Workers find the Service `redis` of their own namespace by that name alone. The operator runs in another namespace.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or host == "localhost" or "." in host or ":" in host:
        return url
    user, at, address = parts.netloc.rpartition("@")
    _, colon, port = address.partition(":")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}.{namespace}.svc{colon}{port}"))
