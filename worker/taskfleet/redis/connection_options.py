"""The options of a connection to Redis: its address, timeouts, credentials and TLS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import UnixDomainSocketConnection

from taskfleet.errors import ConfigurationError
from taskfleet.redis import replies, urls
from taskfleet.redis.urls import RedisAddress

if TYPE_CHECKING:
    from taskfleet.redis.tls import Tls


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds: for opening a connection, and for the reply to a command."""

    connect: float = 5.0
    command: float = 5.0


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to reach Redis. Options of the URL take precedence over the other fields.

    `login` are redis-py's options `username`, `password`, `credential_provider`, for the data servers;
    `sentinel_login` the same for Sentinels. Timeouts in seconds.
    """

    url: str
    pool_size: int = 10
    timeouts: Timeouts = field(default_factory=Timeouts)
    login: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sentinel_login: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tls: Tls | None = None
    reply_bytes: int = replies.REPLY_BYTES
    # Parsed once, since every call needs the kind of server.
    address: RedisAddress = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        address = urls.parse(self.url)
        object.__setattr__(self, "address", address)
        if self.sentinel_login and address.kind != "sentinel":
            raise ConfigurationError("redis.sentinel_username and its password need redis+sentinel:// addresses")
        said = address.options
        timeouts = Timeouts(
            said.socket_connect_timeout or self.timeouts.connect, said.socket_timeout or self.timeouts.command
        )
        object.__setattr__(self, "timeouts", timeouts)
        object.__setattr__(self, "pool_size", said.max_connections or self.pool_size)
        if address.tls:
            from taskfleet.redis.tls import Tls  # only here: it is for rediss:// alone

            object.__setattr__(self, "tls", replace(self.tls or Tls(), **said.tls))

    def for_data_servers(self) -> dict[str, Any]:
        """Connection options besides host and port, for any data server."""
        address = self.address
        options: dict[str, Any] = {
            "username": address.username,
            "password": address.password,
            "db": address.database,
            "protocol": address.options.protocol,
            "client_name": address.options.client_name,
            "health_check_interval": address.options.health_check_interval,
        }
        if address.path:
            options |= {"path": address.path, "connection_class": UnixDomainSocketConnection}
        options = {name: value for name, value in options.items() if value is not None}
        if self.login:
            options = {k: v for k, v in options.items() if k not in ("username", "password")} | dict(self.login)
        if self.tls is not None:
            options["tls"] = self.tls
        return options
