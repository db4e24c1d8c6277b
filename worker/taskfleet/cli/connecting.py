"""The option `--redis`, and the queues that a command works on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import typer

from taskfleet.cli import redirecting

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue
    from taskfleet.settings import Settings


def _or_before_the_command(context: typer.Context, given: str) -> str:
    """`taskfleet --redis URL queues` is `taskfleet queues --redis URL`."""
    found: str = given or context.find_root().params.get("redis") or ""
    return found


def redis_option(text: str) -> Any:
    """`--redis` of a command, or before it."""
    return typer.Option("", "--redis", metavar="URL", help=text, callback=_or_before_the_command)


REDIS = redis_option("The Redis, before all settings; default: REDIS_URL, the file.")


def check_use(context: typer.Context) -> None:
    """`--redis` before a command that knows no Redis is an error, since it would have no effect there."""
    known: Any = getattr(context.command, "commands", {})
    command = known.get(context.invoked_subcommand, context.command)
    if not _takes_redis(command):
        raise typer.BadParameter(f"`taskfleet {command.name}` uses no Redis: leave out --redis")


def _takes_redis(command: Any) -> bool:
    below = getattr(command, "commands", None)
    if below is not None:
        return any(map(_takes_redis, below.values()))
    return any("--redis" in parameter.opts for parameter in command.params)


def with_queue(
    url: str, operation: Callable[[TaskQueue], Awaitable[int | None]], *, within: float | None = None
) -> int:
    """Run `operation` on the queues at `url`, or at the address in the settings. Returns the exit code.

    Connecting and a call take `within` seconds at most, if it is given.
    """
    import asyncio

    from taskfleet.queue import TaskQueue

    async def run() -> int:
        settings = _settings(url)
        if within is not None:
            limits = {"connection_timeout": within, "command_timeout": within}
            settings = settings.model_copy(update={"redis": settings.redis.model_copy(update=limits)})
        async with TaskQueue(settings=settings) as queue:
            return await operation(queue) or 0

    return asyncio.run(run())


def _settings(url: str) -> Settings:
    from taskfleet import config

    settings = config.load()
    return settings.model_copy(update={"redis": redirecting.at(settings.redis, url)}) if url else settings


def with_app(application: str, url: str, operation: Callable[[TaskQueue], Awaitable[int | None]]) -> int:
    """As `with_queue`, with the queue of an application (`module:attribute`), at `url` or where its code has put it."""
    import asyncio

    from taskfleet.process.loading import load_app

    queue = load_app(application)

    async def run() -> int:
        async with queue:
            return await operation(queue) or 0

    with redirecting.redirected(queue, url):
        return asyncio.run(run())
