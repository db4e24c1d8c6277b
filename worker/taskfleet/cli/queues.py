"""`taskfleet queues`, `pause`, `resume`, `purge`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import asking, completing, listing, progress_bar, similar
from taskfleet.cli.connecting import REDIS, with_app, with_queue
from taskfleet.cli.listing import Column

if TYPE_CHECKING:
    from taskfleet.protocol.stats import QueueStats
    from taskfleet.queue import TaskQueue

QUEUE = typer.Argument(..., metavar="QUEUE", autocompletion=completing.queues)
JSON = typer.Option(False, "--json", help='Print {"items": [...]}.')

_COLUMNS: list[Column[tuple[str, QueueStats]]] = [
    Column("queue", lambda item: item[0], name=True),
    Column("ready", lambda item: item[1].ready, right=True),
    Column("running", lambda item: item[1].in_flight, right=True),
    Column("delayed", lambda item: item[1].delayed, right=True),
    Column("blocked", lambda item: item[1].blocked, right=True),
    Column("dead", lambda item: item[1].dead, right=True),
    Column("oldest", lambda item: listing.age(item[1].oldest_age_seconds), right=True),
    Column("finished", lambda item: item[1].finished_total, right=True),
    Column("paused", lambda item: "yes" if item[1].paused else "no"),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def queues(redis: str = REDIS, as_json: bool = JSON) -> int:  # pyright: ignore[reportUnusedFunction]
        """List all queues with their figures."""

        async def show(queue: TaskQueue) -> None:
            listing.show(
                sorted((await queue.get_metrics()).items()),
                _COLUMNS,
                lambda item: {"name": item[0], **dataclasses.asdict(item[1])},
                as_json=as_json,
                none="no queue has had a task yet",
            )

        return with_queue(redis, show)

    @app.command()
    def pause(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE,
        application: str = typer.Option(
            "", "--app", help="module:attribute; with its options, partitions without a task are paused too."
        ),
        redis: str = REDIS,
    ) -> int:
        """Stop claiming tasks of a queue; running tasks go on."""

        async def stop(queue: TaskQueue) -> None:
            await queue.pause(await similar.known_queue(queue, name))
            print(f"queue {name!r} is paused")

        return with_app(application, redis, stop) if application else with_queue(redis, stop)

    @app.command()
    def resume(name: str = QUEUE, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Claim tasks of a paused queue again."""

        async def go_on(queue: TaskQueue) -> None:
            await queue.resume(await similar.known_queue(queue, name))
            print(f"queue {name!r} is resumed")

        return with_queue(redis, go_on)

    @app.command()
    def purge(  # pyright: ignore[reportUnusedFunction]
        name: str = QUEUE, yes: bool = asking.YES, redis: str = REDIS
    ) -> int:
        """Delete all waiting tasks of a queue; running tasks and dead letters stay."""

        async def waiting(queue: TaskQueue) -> int:
            stats = await queue.queue_stats(name)
            return stats.ready + stats.delayed + stats.blocked

        async def delete(queue: TaskQueue) -> None:
            await similar.known_queue(queue, name)
            total = await waiting(queue)
            if total:
                asking.ask(f"Delete {tasks_of(total)} waiting in queue {name!r}", yes=yes)
            deleted = await progress_bar.watched(queue.purge(name), "deleting", total, lambda: waiting(queue))
            print(f"{tasks_of(deleted)} deleted")

        return with_queue(redis, delete)


def tasks_of(number: int) -> str:
    """`1 task`, `5 tasks`."""
    return f"{number} task{'' if number == 1 else 's'}"
