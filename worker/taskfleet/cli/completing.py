"""Names that the shell completes: of queues, tasks, schedules, and the ids of tasks.

They are read from Redis, or from the code of `--app`, while somebody waits at a prompt. So it takes a second at most;
without an answer there is no completion, and no word of an error.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import connecting

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_SECONDS = 1.0
_CONNECT_SECONDS = 0.5
_MOST = 200

Names = Callable[["TaskQueue"], Awaitable[Iterable[str]]]


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """The queues that have had a task, are configured, or are named by a worker."""

    async def read(queue: TaskQueue) -> set[str]:
        known = set(await queue.broker.queues()) | {options.name for options in queue.application.queue_options}
        return known.union(*(worker.queues for worker in await queue.workers()))

    return _from_redis(context, incomplete, read)


def schedules(context: typer.Context, incomplete: str) -> list[str]:
    """All schedules."""

    async def read(queue: TaskQueue) -> list[str]:
        return [schedule.name for schedule in await queue.list_schedules()]

    return _from_redis(context, incomplete, read)


def tasks(context: typer.Context, incomplete: str) -> list[str]:
    """The tasks of `--app`, if it was given; else the names of some tasks in Redis."""
    if application := context.params.get("application"):
        return _starting(incomplete, _of_application(application))

    async def read(queue: TaskQueue) -> list[str]:
        return [info.task for info in (await queue.list_tasks(limit=_MOST)).items if info.task]

    return _from_redis(context, incomplete, read)


def ids(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of some tasks in Redis."""

    async def read(queue: TaskQueue) -> list[str]:
        return [info.id for info in (await queue.list_tasks(limit=_MOST)).items]

    return _from_redis(context, incomplete, read)


def dead_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of the last dead letters of the queue that was named before."""
    name = context.params.get("name")

    async def read(queue: TaskQueue) -> list[str]:
        broker = queue.broker
        places = [
            place
            for partition in await broker.partitions(name)
            for place in await broker.last_letters(partition, limit=_MOST)
        ]
        return [place.id for place in places if place.id is not None]

    return _from_redis(context, incomplete, read) if name else []


def _from_redis(context: typer.Context, incomplete: str, read: Names) -> list[str]:
    import asyncio

    url = context.params.get("redis") or context.find_root().params.get("redis") or ""
    found: list[str] = []

    async def keep(queue: TaskQueue) -> None:
        async with asyncio.timeout(_SECONDS):
            found.extend(await read(queue))

    with _silence():
        connecting.with_queue(url, keep, within=_CONNECT_SECONDS)
    return _starting(incomplete, found)


def _of_application(application: str) -> list[str]:
    from taskfleet.process.loading import load_app
    from taskfleet.tasks.namespace import CLASS_TASKS

    found: list[str] = []
    with _silence():
        queue = load_app(application)
        found += [definition.name for registry in (queue.registry, CLASS_TASKS) for definition in registry]
    return found


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    # A name with a control character, or with a space, would be something else in a shell.
    return sorted({name for name in names if name.startswith(incomplete) and name.isprintable() and " " not in name})


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Inside the block nothing is printed or logged, and every error ends it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.suppress(Exception, SystemExit),  # the application's code may raise anything
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(before)
