"""`spec.redis`: the address of the Redis, and the login for it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .patterns import matches, quoted
from .resource_model import ResourceModel, Rule

RedisMode = Literal["Standalone", "Sentinel", "Cluster"]
TlsMode = Literal["Disabled", "Enabled"]
_HOST = r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9a-fA-F:.]{2,45}\])"
_PORT = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
Address = Annotated[str, Field(pattern=f"^{_HOST}:{_PORT}$", max_length=263)]
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS = rf"{_LABEL}(\.{_LABEL})*"
# A key of a Secret may not be . or .., nor begin with two dots.
_DATA_KEY = r"^[.]?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"
Name = Annotated[str, Field(pattern=f"^{_DNS}$", max_length=253)]
_WORD = r"^[^\x00-\x20\x7f]+$"


class SecretKeyRef(ResourceModel):
    """One key of a secret in the namespace of the TaskQueue."""

    name: Name
    """Name of the secret."""
    key: Annotated[str, Field(pattern=_DATA_KEY, max_length=253)]
    """Key in the secret."""


class AuthSpec(ResourceModel):
    """An ACL user, a password, or both."""

    username: str | None = Field(default=None, pattern=_WORD, min_length=1, max_length=253)
    """Name of the ACL user; Redis has the user default when unset."""
    password_secret_ref: SecretKeyRef | None = None
    """The password. It reaches the workers as a file."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.username) || has(self.passwordSecretRef)",
            "auth: set username, passwordSecretRef or both, or leave auth out",
            check=lambda auth: auth.username is not None or auth.password_secret_ref is not None,
        ),
    )


class SentinelSpec(ResourceModel):
    """The addresses of the sentinels, and the name of the master."""

    master_name: str = Field(pattern=r"^[^\x00-\x20\x7f/]+$", min_length=1, max_length=253)
    """Name of the master, as the sentinels know it."""
    addresses: tuple[Address, ...] = Field(min_length=1, max_length=16)
    """Addresses of the sentinels, as host:port."""
    password_secret_ref: SecretKeyRef | None = None
    """The password of the sentinels."""


class ClusterSpec(ResourceModel):
    """Nodes of a Redis Cluster to start from."""

    addresses: tuple[Address, ...] = Field(min_length=1, max_length=64)
    """Addresses of nodes to start from, as host:port."""


class TlsSpec(ResourceModel):
    """TLS to Redis, with a CA and a client certificate if needed."""

    mode: TlsMode = "Disabled"
    """Enabled: connect with TLS."""
    ca_secret_ref: SecretKeyRef | None = None
    """The CA that has signed the certificate of the server."""
    client_cert_secret_name: str = Field(default="", pattern=f"^({_DNS})?$", max_length=253)
    """A secret of type kubernetes.io/tls with the client certificate."""
    server_name: str = Field(default="", pattern=r"^[A-Za-z0-9._:-]*$", max_length=253)
    """The name in the certificate of the server, when it is not the host name."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode == 'Enabled' || (!has(self.caSecretRef) && self.clientCertSecretName == '')",
            "tls: a CA or client certificate has no effect while mode is Disabled; set mode: Enabled",
            ".mode",
            lambda tls: tls.mode == "Enabled" or (tls.ca_secret_ref is None and not tls.client_cert_secret_name),
        ),
    )


_URL_SCHEME = r"^rediss?://.*$"
# What a password could hide in is not there at all: a colon before the @, an escape, a fragment, an option that is not
# one of these. The values of the options are numbers and words.
_OPTION = (
    r"(db=[0-9]{1,10}|protocol=[23]|client_name=[A-Za-z0-9_.-]{1,64}|socket_connect_timeout=[0-9.]{1,8}|"
    r"socket_timeout=[0-9.]{1,8}|max_connections=[0-9]{1,5}|health_check_interval=[0-9]{1,5}|"
    r"ssl_cert_reqs=(required|optional|none)|ssl_check_hostname=(true|false))"
)
URL = rf"^rediss?://([A-Za-z0-9_.~-]{{1,128}}@)?{_HOST}(:{_PORT})?(/[0-9]{{0,10}})?(\?{_OPTION}(&{_OPTION}){{0,8}})?$"
"""`spec.redis.url`: a user name but no password, a host, a port, a database, and options that are no secret."""


def _has_url(redis: RedisSpec) -> bool:
    return redis.url is not None or redis.url_secret_ref is not None


class RedisSpec(ResourceModel):
    """`spec.redis`. Timeouts in seconds; `poolSize` is connections per worker process."""

    mode: RedisMode = "Standalone"
    """The topology of the Redis."""
    url: str | None = Field(default=None, min_length=1, max_length=1024)
    """redis://host:6379/0, or rediss:// for TLS. Without a password. A host without a dot is a Service in the
    namespace of the TaskQueue."""
    url_secret_ref: SecretKeyRef | None = None
    """A secret key with the URL, in place of url."""
    auth: AuthSpec | None = None
    sentinel: SentinelSpec | None = None
    cluster: ClusterSpec | None = None
    tls: TlsSpec = TlsSpec()
    key_prefix: str = Field(default="taskfleet", pattern=r"^[A-Za-z0-9_.\-]+$", max_length=64)
    """First part of every key in Redis. It cannot be changed."""
    pool_size: int = Field(default=10, ge=2, le=1000)
    """Connections of each worker process."""
    connect_timeout_seconds: int = Field(default=5, ge=1, le=120)
    """How long a connection may take, in seconds."""
    command_timeout_seconds: int = Field(default=5, ge=1, le=120)
    """How long a command may take, in seconds."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode != 'Standalone' || has(self.url) != has(self.urlSecretRef)",
            "redis: mode Standalone needs exactly one of url and urlSecretRef",
            ".url",
            lambda redis: redis.mode != "Standalone" or (redis.url is not None) != (redis.url_secret_ref is not None),
        ),
        Rule(
            "self.mode == 'Standalone' || (!has(self.url) && !has(self.urlSecretRef))",
            "redis: with mode Sentinel or Cluster the addresses stand in that block; remove url and urlSecretRef",
            ".url",
            lambda redis: redis.mode == "Standalone" or not _has_url(redis),
        ),
        Rule(
            "self.mode != 'Sentinel' || has(self.sentinel)",
            "redis: mode Sentinel needs the block sentinel",
            ".mode",
            lambda redis: redis.mode != "Sentinel" or redis.sentinel is not None,
        ),
        Rule(
            "self.mode == 'Sentinel' || !has(self.sentinel)",
            "redis: the block sentinel needs mode: Sentinel",
            ".sentinel",
            lambda redis: redis.mode == "Sentinel" or redis.sentinel is None,
        ),
        Rule(
            "self.mode != 'Cluster' || has(self.cluster)",
            "redis: mode Cluster needs the block cluster",
            ".mode",
            lambda redis: redis.mode != "Cluster" or redis.cluster is not None,
        ),
        Rule(
            "self.mode == 'Cluster' || !has(self.cluster)",
            "redis: the block cluster needs mode: Cluster",
            ".cluster",
            lambda redis: redis.mode == "Cluster" or redis.cluster is None,
        ),
        Rule(
            f"!has(self.url) || self.url.matches({quoted(_URL_SCHEME)})",
            "redis.url: write redis://host:6379/0, or rediss:// for TLS",
            ".url",
            lambda redis: redis.url is None or matches(_URL_SCHEME, redis.url),
        ),
        Rule(
            f"!has(self.url) || !self.url.matches({quoted(_URL_SCHEME)}) || self.url.matches({quoted(URL)})",
            "redis.url must be redis://user@host:6379/0, without a password, escapes or options that are not known: "
            "use auth.passwordSecretRef for a password, and urlSecretRef for any other URL",
            ".url",
            lambda redis: redis.url is None or not matches(_URL_SCHEME, redis.url) or matches(URL, redis.url),
        ),
        Rule(
            "self.keyPrefix == oldSelf.keyPrefix",
            "redis.keyPrefix cannot be changed: the tasks under the old prefix would be left behind",
            ".keyPrefix",
        ),
    )
