"""`taskfleet queues`, `pause`, `resume`, `dead list|requeue|purge`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable

import typer

from taskfleet.queue import TaskQueue
from taskfleet.showing import shown

_ERROR_LIMIT = 4000  # characters, as in the records of a worker


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def queues(as_json: bool = typer.Option(False, "--json")) -> int:  # pyright: ignore[reportUnusedFunction]
        """List all queues with their figures."""

        async def show(queue: TaskQueue) -> None:
            metrics = await queue.get_metrics()
            if as_json:
                print(json.dumps({name: dataclasses.asdict(stats) for name, stats in metrics.items()}))
                return
            width = max([5, *(len(shown(name)) for name in metrics)])
            print("queue".ljust(width), *(column.removesuffix("_total").rjust(12) for column in _HEADS))
            for name, stats in metrics.items():
                figures = [stats.ready, stats.in_flight, stats.delayed, stats.dead, f"{stats.oldest_age_seconds:.1f}",
                           stats.finished_total, stats.failed_total, "yes" if stats.paused else "no"]  # fmt: skip
                print(shown(name).ljust(width), *(str(figure).rjust(12) for figure in figures))

        return _with_queue(show)

    @app.command()
    def pause(name: str = typer.Argument(..., metavar="QUEUE")) -> int:  # pyright: ignore[reportUnusedFunction]
        """Stop claiming tasks of a queue; running tasks go on."""
        return _with_queue(lambda queue: queue.pause(name))

    @app.command()
    def resume(name: str = typer.Argument(..., metavar="QUEUE")) -> int:  # pyright: ignore[reportUnusedFunction]
        """Claim tasks of a paused queue again."""
        return _with_queue(lambda queue: queue.resume(name))

    dead = typer.Typer(help="Dead letters.", no_args_is_help=True)

    @dead.command("list")
    def list_(  # pyright: ignore[reportUnusedFunction]
        name: str = typer.Argument(..., metavar="QUEUE"),
        limit: int = typer.Option(20, min=1, max=10_000),
        as_json: bool = typer.Option(False, "--json"),
    ) -> int:
        """List the oldest dead letters with their reasons."""

        async def show(queue: TaskQueue) -> None:
            for letter in await queue.dead_letters(name, limit=limit):
                if as_json:
                    print(json.dumps(dataclasses.asdict(letter), default=str))
                else:
                    text = f"{shown(letter.task)}  {shown(letter.reason)}: {shown(letter.error, _ERROR_LIMIT)}"
                    print(f"{shown(letter.id)}  {letter.died_at:%F %T}  {text}")

        return _with_queue(show)

    @dead.command()
    def requeue(  # pyright: ignore[reportUnusedFunction]
        name: str = typer.Argument(..., metavar="QUEUE"),
        ids: list[str] = typer.Argument(None, metavar="[ID]...", help="Without ids: all."),  # noqa: B008
    ) -> int:
        """Put dead letters back into their queue."""

        async def move(queue: TaskQueue) -> None:
            print(f"{await queue.requeue_dead(name, ids or None)} requeued")

        return _with_queue(move)

    @dead.command()
    def purge(  # pyright: ignore[reportUnusedFunction]
        name: str = typer.Argument(..., metavar="QUEUE"), yes: bool = typer.Option(False, "--yes", help="Do not ask.")
    ) -> int:
        """Delete all dead letters of a queue."""
        if not yes:
            typer.confirm(f"Delete all dead letters of queue {name!r}?", abort=True)

        async def delete(queue: TaskQueue) -> None:
            print(f"{await queue.purge_dead(name)} deleted")

        return _with_queue(delete)

    app.add_typer(dead, name="dead")


_HEADS = ("ready", "in_flight", "delayed", "dead", "oldest_s", "finished", "failed", "paused")


def _with_queue(operation: Callable[[TaskQueue], Awaitable[None]]) -> int:
    async def run() -> None:
        async with TaskQueue.from_config() as queue:
            await operation(queue)

    asyncio.run(run())
    return 0
