"""The Redis of a manifest, as it is reached from this machine: its secrets are variables here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskfleet import config
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.connecting import connect
from taskfleet.redis.from_settings import options_of
from taskfleet.settings import RedisSettings

from ..resource.redis_spec import RedisSpec


@dataclass(frozen=True, slots=True)
class LocalRedis:
    """A URL, and what the workers need beside it. Login and TLS of this process come from `settings`.

    One that is not `kept` ends, with all tasks, when the program does.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: RedisSettings | None = None
    kept: bool = True

    def broker(self, *, prefix: str = "taskfleet", **changes: Any) -> RedisBroker:
        """A broker; `changes` are fields of `RedisSettings`. ConfigurationError for a variable that is wrong."""
        settings = config.from_environment().redis if self.settings is None else self.settings
        own = dict(_fields(self.environment))
        return RedisBroker(connect(options_of(settings.model_copy(update={**own, **changes}), self.url)), prefix)


def _fields(environment: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for variable, value in environment.items():
        name = variable.removeprefix("TASKFLEET_REDIS__").lower()
        yield name, value == "true" if name == "tls" else value


@dataclass(frozen=True, slots=True)
class ManifestRedis:
    """`spec.redis`. `secrets` names for each secret the variables that stand for it here; one of them is enough."""

    here: LocalRedis
    secrets: Mapping[str, tuple[str, ...]]

    def missing(self, environment: Mapping[str, str]) -> list[str]:
        """What has to be set before the manifest's Redis can be used, one line for each secret."""
        return [
            f"{field} is in a cluster: set {' or '.join(variables)} to use its Redis; now an embedded Valkey is used"
            for field, variables in self.secrets.items()
            if not any(environment.get(variable) for variable in variables)
        ]


def redis_of(redis: RedisSpec) -> ManifestRedis:
    """The Redis of a manifest. ConfigurationError for an address that is none."""
    secrets: dict[str, tuple[str, ...]] = {}
    environment: dict[str, str] = {}
    if redis.url_secret_ref is not None:
        secrets["spec.redis.urlSecretRef"] = ("REDIS_URL",)
    if redis.auth is not None:
        if redis.auth.username is not None:
            environment["TASKFLEET_REDIS__USERNAME"] = redis.auth.username
        if redis.auth.password_secret_ref is not None:
            secrets["spec.redis.auth.passwordSecretRef"] = _either("PASSWORD")
    if redis.sentinel is not None and redis.sentinel.password_secret_ref is not None:
        secrets["spec.redis.sentinel.passwordSecretRef"] = _either("SENTINEL_PASSWORD")
    if redis.tls.mode == "Enabled":
        environment["TASKFLEET_REDIS__TLS"] = "true"
        if redis.tls.server_name:
            environment["TASKFLEET_REDIS__TLS_SERVER_NAME"] = redis.tls.server_name
        if redis.tls.ca_secret_ref is not None:
            secrets["spec.redis.tls.caSecretRef"] = ("TASKFLEET_REDIS__TLS_CA_FILE",)
        if redis.tls.client_cert_secret_name:
            secrets["spec.redis.tls.clientCertSecretName"] = ("TASKFLEET_REDIS__TLS_CERT_FILE",)
    return ManifestRedis(LocalRedis(_url(redis), environment), secrets)


def _either(name: str) -> tuple[str, str]:
    return f"TASKFLEET_REDIS__{name}", f"TASKFLEET_REDIS__{name}_FILE"


def _url(redis: RedisSpec) -> str:
    if redis.sentinel is not None:
        return urls.sentinel(redis.sentinel.addresses, redis.sentinel.master_name, where="spec.redis.sentinel")
    if redis.cluster is not None:
        return urls.cluster(redis.cluster.addresses, where="spec.redis.cluster")
    return redis.url or ""
