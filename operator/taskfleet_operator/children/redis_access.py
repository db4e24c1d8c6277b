"""How the workers reach their Redis: the variables and the files that `spec.redis` becomes in their pods.

Secrets are files, which a worker reads at every connection. Only a URL in a secret is a variable, by reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..resource.redis_spec import RedisSpec

_LOGIN = "/etc/taskfleet/redis"
_SENTINEL_LOGIN = "/etc/taskfleet/sentinel"
_CA = "/etc/taskfleet/ca"
_CLIENT = "/etc/taskfleet/client"


@dataclass(frozen=True)
class RedisAccess:
    """Entries for the container's `env` and `volumeMounts`, and for the pod's `volumes`."""

    env: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)

    def set(self, name: str, value: object) -> None:
        self.env.append({"name": name, "value": str(value)})

    def mount(self, name: str, folder: str, secret: str, files: dict[str, str]) -> None:
        """Mount keys of a secret as `{key: file}` in a folder."""
        items = [{"key": key, "path": path} for key, path in files.items()]
        self.volumes.append({"name": name, "secret": {"secretName": secret, "items": items}})
        self.mounts.append({"name": name, "mountPath": folder, "readOnly": True})


def access_of(redis: RedisSpec) -> RedisAccess:
    """The access of the workers. The names of the variables are those of `taskfleet.settings.RedisSettings`."""
    access = RedisAccess()
    _address(access, redis)
    access.set("REDIS_POOL_SIZE", redis.pool_size)
    access.set("REDIS_CONNECTION_TIMEOUT", redis.connect_timeout_seconds)
    access.set("REDIS_COMMAND_TIMEOUT", redis.command_timeout_seconds)
    access.set("TASKFLEET_REDIS__KEY_PREFIX", redis.key_prefix)
    if redis.auth is not None:
        if redis.auth.username is not None:
            access.set("TASKFLEET_REDIS__USERNAME", redis.auth.username)
        if (reference := redis.auth.password_secret_ref) is not None:
            access.mount("redis-password", _LOGIN, reference.name, {reference.key: "password"})
            access.set("TASKFLEET_REDIS__PASSWORD_FILE", f"{_LOGIN}/password")
    if redis.tls.mode == "Enabled":
        _tls(access, redis)
    return access


def _address(access: RedisAccess, redis: RedisSpec) -> None:
    if redis.sentinel is not None:
        access.set("TASKFLEET_REDIS__SENTINEL_ADDRESSES", _list(redis.sentinel.addresses))
        access.set("TASKFLEET_REDIS__SENTINEL_MASTER", redis.sentinel.master_name)
        if (login := redis.sentinel.password_secret_ref) is not None:
            access.mount("sentinel-password", _SENTINEL_LOGIN, login.name, {login.key: "password"})
            access.set("TASKFLEET_REDIS__SENTINEL_PASSWORD_FILE", f"{_SENTINEL_LOGIN}/password")
    elif redis.cluster is not None:
        access.set("TASKFLEET_REDIS__CLUSTER_ADDRESSES", _list(redis.cluster.addresses))
    elif redis.url_secret_ref is not None:
        reference = {"name": redis.url_secret_ref.name, "key": redis.url_secret_ref.key}
        access.env.append({"name": "REDIS_URL", "valueFrom": {"secretKeyRef": reference}})
    else:
        access.set("REDIS_URL", redis.url)


def _list(addresses: Sequence[str]) -> str:
    """As JSON: a list between commas that begins with an IPv6 address would be taken for JSON."""
    return json.dumps(list(addresses))


def _tls(access: RedisAccess, redis: RedisSpec) -> None:
    tls = redis.tls
    access.set("TASKFLEET_REDIS__TLS", "true")
    if tls.ca_secret_ref is not None:
        access.mount("redis-ca", _CA, tls.ca_secret_ref.name, {tls.ca_secret_ref.key: "ca.crt"})
        access.set("TASKFLEET_REDIS__TLS_CA_FILE", f"{_CA}/ca.crt")
    if tls.client_cert_secret_name:
        files = {"tls.crt": "tls.crt", "tls.key": "tls.key"}  # the keys of a secret of type kubernetes.io/tls
        access.mount("redis-client", _CLIENT, tls.client_cert_secret_name, files)
        access.set("TASKFLEET_REDIS__TLS_CERT_FILE", f"{_CLIENT}/tls.crt")
        access.set("TASKFLEET_REDIS__TLS_KEY_FILE", f"{_CLIENT}/tls.key")
    if tls.server_name:
        access.set("TASKFLEET_REDIS__TLS_SERVER_NAME", tls.server_name)
