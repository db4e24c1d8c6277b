"""Connections to Redis, and what to do when they fail."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as redis_async
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry as RedisRetry
from redis.backoff import NoBackoff

from taskfleet.engine.scripts import Script
from taskfleet.errors import BrokerConnectionError, ConfigurationError, TaskQueueError

# Replies that mean "this server is not, or no longer, the one to talk to": every connection is dropped, so that
# DNS is asked again.
_WRONG_SERVER = ("READONLY", "UNBLOCKED", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")
RETRYABLE = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError, asyncio.TimeoutError)


def is_wrong_server(error: BaseException) -> bool:
    return isinstance(error, (redis_errors.ReadOnlyError, redis_errors.BusyLoadingError)) or (
        isinstance(error, redis_errors.ResponseError) and str(error).startswith(_WRONG_SERVER)
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call can succeed later without anybody changing the program."""
    return isinstance(error, RETRYABLE) or is_wrong_server(error)


def backoff_seconds(failures: int) -> float:
    """0.05 s doubling to 5 s, half of it jitter."""
    ceiling = min(5.0, 0.05 * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + random.random() / 2)


def address(url: str) -> str:
    """host:port of a Redis URL, without what is secret in it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def check_url(url: str) -> str:
    """Return `url`, or raise `ConfigurationError` that says what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigurationError(
            f"Redis URL: scheme {parts.scheme!r} is not known; write redis://host:6379/0, rediss://… or unix://…"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"Redis URL for host {parts.hostname!r}: the port is not a number") from None
    return url


def connection_error(url: str, error: BaseException) -> TaskQueueError:
    """The one line that a user sees when Redis does not answer."""
    where = address(url)
    if isinstance(error, redis_errors.OutOfMemoryError):
        return BrokerConnectionError(f"Redis at {where} is out of memory: raise maxmemory or drain the queues")
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.AuthorizationError)):
        return BrokerConnectionError(f"Redis at {where} refuses the credentials: check user name and password")
    return BrokerConnectionError(f"cannot reach Redis at {where}: {_reason(error)}; start it, or set REDIS_URL")


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    # redis-py writes "Error 111 connecting to host:port. …": the number's meaning is what a reader needs.
    number = re.match(r"Error (\d+) connecting", text)
    return os.strerror(int(number[1])).lower() if number else text


class RedisClient:
    """A pool of connections that runs scripts, loading them when the server has lost them."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        command_timeout: float = 5.0,
        **connection: Any,
    ) -> None:
        self.url = check_url(url)
        self._command_timeout = command_timeout
        # Retries are ours, per operation: only here is it known what may be sent twice.
        # Any: its stubs give each reply the types of all protocols and decodings at once.
        self.redis: Any = redis_async.Redis(
            connection_pool=redis_async.BlockingConnectionPool.from_url(
                url,
                max_connections=pool_size,
                timeout=connect_timeout + command_timeout,
                socket_connect_timeout=connect_timeout,
                socket_timeout=command_timeout,
                socket_keepalive=True,
                retry=RedisRetry(NoBackoff(), 0),
                retry_on_error=[],
                **connection,
            )
        )

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """One call of `script`. Errors of Redis pass through; see `call` for the patient form."""
        try:
            return await self.redis.evalsha(script.digest, len(keys), *keys, *args)
        except redis_errors.NoScriptError:
            # NOSCRIPT says that nothing was executed, so sending it again is safe.
            return await self.redis.eval(script.source, len(keys), *keys, *args)

    async def run_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Several calls of one script in one round trip."""
        for _ in range(2):
            pipeline = self.redis.pipeline(transaction=False)
            for keys, args in calls:
                pipeline.evalsha(script.digest, len(keys), *keys, *args)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            errors = [reply for reply in replies if isinstance(reply, Exception)]
            if not errors:
                return replies
            if not all(isinstance(error, redis_errors.NoScriptError) for error in errors):
                raise errors[0]
            await self.redis.script_load(script.source)
        raise BrokerConnectionError(f"Redis at {address(self.url)} keeps losing its scripts")

    async def dropped(self, error: BaseException) -> None:
        """Take note of a failure: connections to a server that is not the right one are closed."""
        if is_wrong_server(error):
            await self.redis.connection_pool.disconnect(inuse_connections=True)

    async def patiently(self, operation: Any, *, attempts: int = 3) -> Any:
        """Run `await operation(attempt)` up to `attempts` times; the last failure is a `TaskQueueError`.

        `attempt` counts from 0, so that an operation can say that it has been sent before.
        """
        for attempt in range(attempts):
            try:
                return await operation(attempt)
            except redis_errors.RedisError as error:
                await self.dropped(error)
                if not is_transient(error) or attempt + 1 == attempts:
                    raise connection_error(self.url, error) from None
            except OSError as error:
                if attempt + 1 == attempts:
                    raise connection_error(self.url, error) from None
            await asyncio.sleep(backoff_seconds(attempt))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()
