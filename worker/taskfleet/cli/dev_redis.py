"""The Redis of `taskfleet dev`: the one that the application names, else an embedded Valkey at the default address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskfleet.cli import redirecting, terminal
from taskfleet.embedded_valkey import EmbeddedValkey, answers
from taskfleet.errors import BrokerConnectionError, ConfigurationError

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

DEFAULT_PORT = 6379
_FOLDER = Path(".taskfleet")


@dataclass(frozen=True, slots=True)
class DevRedis:
    """`redirect` is the URL that the workers are to use in place of their own, if any."""

    redirect: str = ""
    server: EmbeddedValkey | None = None

    def tend(self) -> None:
        """Start the embedded Valkey again after it has ended. Its data is in its folder."""
        if self.server is not None and not self.server.runs():
            terminal.say(f"the embedded Valkey is started again, for it {self.server.end()}")
            self.server.start()


@contextlib.contextmanager
def chosen(queue: TaskQueue, redis: str, port: int | None) -> Generator[DevRedis]:
    """The Redis to use; a Valkey that was started for it ends with the block.

    `redis` comes first, then `port`, which asks for an embedded Valkey there, then what code or configuration name. If
    none of them names a Redis, it is whatever answers at the default address, or else a Valkey that is started there: a
    program in the same or in another folder finds it without a setting.
    """
    if redis and port:
        raise ConfigurationError("--redis and --port both say where Redis is; keep one")
    found = DevRedis(redis)
    if not port:
        if not redis and queue.broker.url.startswith("memory:"):
            raise ConfigurationError(
                "the application keeps its queues in memory, where no other process sees them: give --redis or --port"
            )
        named = redis or _named(queue)
        if named or answers("localhost", DEFAULT_PORT):
            if not named:
                _refuse_foreign()
            with redirecting.redirected(queue, redis):
                asyncio.run(_ping(queue))
            terminal.say(f"Redis at {_address(queue, redis)}: it answers, and is used as it is")
            yield found
            return
    folder = _FOLDER / "valkey"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (_FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written, and Valkey keeps its data there: {error}") from None
    number = port or DEFAULT_PORT
    if port and answers("localhost", port):
        raise ConfigurationError(f"--port {port}: a Redis is there already; use it with --redis, or take another port")
    url = f"redis://localhost:{number}/0"
    try:
        with EmbeddedValkey(folder.absolute(), port=number, kept=True, instead="name a Redis with --redis") as server:
            terminal.say(f"Valkey at {url}, with its data in {folder}")
            terminal.say(
                f"in other terminals: export REDIS_URL={url}" if port else "programs find it there without a setting"
            )
            yield DevRedis(url if port else "", server)
    except BrokerConnectionError as error:
        raise BrokerConnectionError(f"{error}; another port: --port N") from None


def _named(queue: TaskQueue) -> bool:
    """Whether code or configuration name a Redis that is not the default."""
    from taskfleet import config
    from taskfleet.settings import RedisSettings

    _, origins = config.load_with_origins()
    addresses = {("redis", key) for key in ("url", "sentinel_addresses", "cluster_addresses")}
    return bool(addresses & origins.keys()) or queue.broker.url != RedisSettings().url


def _refuse_foreign() -> None:
    """Refuse the Valkey of another folder's `taskfleet dev`: its workers would take this application's tasks."""
    import redis

    with (
        contextlib.suppress(redis.RedisError, OSError),
        redis.Redis(port=DEFAULT_PORT, decode_responses=True) as client,
    ):
        place = Path(dict(client.config_get("dir")).get("dir") or "")
        ours = _FOLDER.absolute() / "valkey"
        if place.parts[-2:] == ours.parts[-2:] and place.resolve() != ours.resolve():
            raise ConfigurationError(
                f"localhost:{DEFAULT_PORT} is the Valkey of `taskfleet dev` in {place.parents[1]}: end that one, "
                f"or give this one a port with --port {DEFAULT_PORT + 1}"
            )


async def _ping(queue: TaskQueue) -> None:
    async with queue:
        await queue.broker.ping()


def _address(queue: TaskQueue, redis: str) -> str:
    from taskfleet.redis import urls

    return urls.address(redis or queue.broker.url)
