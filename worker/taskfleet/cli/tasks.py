"""`taskfleet task show|cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from taskfleet.cli import listing
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.showing import shown

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_ID = typer.Argument(..., metavar="ID")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="A single task.", no_args_is_help=True)

    @group.command()
    def show(  # pyright: ignore[reportUnusedFunction]
        task_id: str = _ID, redis: str = REDIS, as_json: bool = typer.Option(False, "--json", help="Print one object.")
    ) -> int:
        """Print the status of a task."""

        async def tell(queue: TaskQueue) -> int:
            handle = queue.handle(task_id)
            status = await handle.status()
            record = {"id": task_id, "queue": handle.queue, "status": status}
            print(listing.as_text(record) if as_json else shown(status))
            return 0 if status != "unknown" else 1

        return with_queue(redis, tell)

    @group.command()
    def cancel(task_id: str = _ID, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Cancel a task that waits or runs."""

        async def stop(queue: TaskQueue) -> int:
            changed = await queue.handle(task_id).cancel()
            print("cancelled" if changed else "nothing to cancel")
            return 0 if changed else 1

        return with_queue(redis, stop)

    app.add_typer(group, name="task")
