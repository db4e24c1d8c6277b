"""The URL of Redis and the options of its connections, from the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskfleet.redis import urls
from taskfleet.redis.connection_options import ConnectionOptions, Timeouts
from taskfleet.redis.credentials import FileCredentials
from taskfleet.settings import RedisSettings

if TYPE_CHECKING:
    from taskfleet.redis.tls import Tls


def url_of(redis: RedisSettings) -> str:
    """The URL of Redis. Errors: `ConfigurationError`."""
    if redis.sentinel_addresses:
        return urls.sentinel(redis.sentinel_addresses, redis.sentinel_master, where="redis.sentinel_addresses")
    if redis.cluster_addresses:
        return urls.cluster(redis.cluster_addresses, where="redis.cluster_addresses")
    return redis.url


def options_of(redis: RedisSettings, url: str) -> ConnectionOptions:
    """How to reach the Redis at `url`. Errors: `ConfigurationError` when the settings do not fit the URL."""
    return ConnectionOptions(
        url,
        pool_size=redis.pool_size,
        timeouts=Timeouts(redis.connection_timeout, redis.command_timeout),
        login=_login(redis.username, redis.password, redis.password_file, "redis.password_file"),
        sentinel_login=_login(
            redis.sentinel_username,
            redis.sentinel_password,
            redis.sentinel_password_file,
            "redis.sentinel_password_file",
        ),
        tls=_tls(redis),
    )


def _login(username: str | None, password: str | None, file: Path | None, setting: str) -> dict[str, Any]:
    if file is not None:
        return {"credential_provider": FileCredentials(username, file, setting)}
    return {name: value for name, value in (("username", username), ("password", password)) if value is not None}


def _tls(redis: RedisSettings) -> Tls | None:
    files = redis.tls_ca_file or redis.tls_cert_file or redis.tls_key_file
    if not (redis.tls or files or redis.tls_server_name) and redis.tls_check_hostname:
        return None
    from taskfleet.redis.tls import Tls  # only here: most connections have none

    fields = {
        "ca_file": redis.tls_ca_file,
        "cert_file": redis.tls_cert_file,
        "key_file": redis.tls_key_file,
        "server_name": redis.tls_server_name,
        "check_hostname": redis.tls_check_hostname,
    }
    return Tls(**fields)  # type: ignore[arg-type]
