"""`taskfleet task list|search|show|cancel|retry`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import typer

from taskfleet.cli import completing, lives, progress_bar, similar
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from taskfleet.inspection.task_info import TaskInfo, TaskPage
    from taskfleet.queue import TaskQueue

    GetPage = Callable[[int, str | None], Awaitable[TaskPage]]

_ID = typer.Argument(..., metavar="ID", autocompletion=completing.ids)
_QUEUE = typer.Option("", help="Only of this queue.", autocompletion=completing.queues)
_STATE = typer.Option("", help="Only in this state, such as ready, running, retrying, failed or dead.")
_TASK = typer.Option("", help="Only tasks of this name.", autocompletion=completing.tasks)
_LIMIT = typer.Option(50, help="How many.", min=1, max=10_000)
_CURSOR = typer.Option("", help="Go on after the page that has ended with this cursor.")
_MOST_AT_ONCE = 1000
_COMPARED = 1000  # tasks whose ids and names are compared with one that is not there
_NEAR = 0.7


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Single tasks.", no_args_is_help=True)

    @group.command("list")
    def list_(  # pyright: ignore[reportUnusedFunction]
        queue: str = _QUEUE, state: str = _STATE, task: str = _TASK, limit: int = _LIMIT, cursor: str = _CURSOR,
        redis: str = REDIS, as_json: bool = JSON,
    ) -> int:  # fmt: skip
        """List tasks: those that run, then those that wait, then those that have ended."""

        async def show(target: TaskQueue) -> None:
            async def page(most: int, after: str | None) -> TaskPage:
                chosen: Any = state or None
                return await target.list_tasks(
                    queue or None, state=chosen, task=task or None, limit=most, cursor=after
                )  # fmt: skip

            await _show(target, page, limit, cursor, queue=queue, task=task, as_json=as_json)

        return with_queue(redis, show)

    @group.command()
    def search(  # pyright: ignore[reportUnusedFunction]
        text: str = typer.Argument(..., help="In a name, arguments or an error, or at the start of an id."),
        queue: str = _QUEUE, state: str = _STATE, task: str = _TASK, limit: int = _LIMIT, cursor: str = _CURSOR,
        redis: str = REDIS, as_json: bool = JSON,
    ) -> int:  # fmt: skip
        """List the tasks that contain a text, upper or lower case."""

        async def show(target: TaskQueue) -> None:
            async def page(most: int, after: str | None) -> TaskPage:
                chosen: Any = state or None
                return await target.search_tasks(
                    text, queue or None, state=chosen, task=task or None, limit=most, cursor=after
                )  # fmt: skip

            await _show(target, page, limit, cursor, queue=queue, task=task, as_json=as_json)

        return with_queue(redis, show)

    _register_single(group)
    app.add_typer(group, name="task")


def _register_single(group: typer.Typer) -> None:
    """The commands on one task."""

    @group.command()
    def show(  # pyright: ignore[reportUnusedFunction]
        task_id: str = _ID, redis: str = REDIS, as_json: bool = typer.Option(False, "--json", help="Print one object.")
    ) -> int:
        """Tell the life of a task: who sent it, its attempts and errors, where it waits and for what, its end."""

        async def tell(queue: TaskQueue) -> None:
            lives.tell(await _known(queue, task_id), as_json=as_json)

        return with_queue(redis, tell)

    @group.command()
    def cancel(task_id: str = _ID, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Cancel a task that waits or runs."""

        async def stop(queue: TaskQueue) -> int:
            if await queue.handle(task_id).cancel():
                print("cancelled")
                return 0
            info = await _known(queue, task_id)
            print(f"taskfleet: nothing to cancel: task {info.id} has ended ({info.state})", file=sys.stderr)
            return 1

        return with_queue(redis, stop)

    @group.command()
    def retry(task_id: str = _ID, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Send a task that is a dead letter back to its queue."""

        async def again(queue: TaskQueue) -> int:
            info = await _known(queue, task_id)
            if await queue.retry(task_id):
                print(f"task {info.id} is back in queue {info.queue!r}")
                return 0
            print(f"taskfleet: task {info.id} is {info.state} and runs anyway: nothing to retry", file=sys.stderr)
            return 1

        return with_queue(redis, again)


async def _known(queue: TaskQueue, task_id: str) -> TaskInfo:
    """The task of that id. Errors: `UnknownNameError` with a similar id."""
    from taskfleet.errors import TaskNotFoundError

    try:
        return await queue.handle(task_id).info()
    except TaskNotFoundError as error:
        known = [info.id for info in (await queue.list_tasks(limit=_COMPARED)).items]
        raise similar.UnknownNameError(f"{error}{similar.hint(task_id, known)}") from None


async def _show(
    target: TaskQueue, page: GetPage, limit: int, cursor: str, *, queue: str, task: str, as_json: bool
) -> None:
    if queue:
        await similar.known_queue(target, queue)
    items: list[TaskInfo] = []
    after: str | None = cursor or None
    examined = 0
    with progress_bar.bar("looking", None) as update:
        while True:
            found = await page(min(_MOST_AT_ONCE, limit - len(items)), after)
            items += found.items
            examined, after = examined + found.examined, found.cursor
            update(examined, f"{examined} tasks")
            if after is None or len(items) >= limit:
                break
    if task and not items and not cursor:
        names = {info.task for info in (await target.list_tasks(limit=_COMPARED)).items if info.task}
        if names and task not in names and similar.hint(task, names, _NEAR):
            raise similar.unknown("no task is named", task, names)
    lives.listing_of(items, as_json=as_json, cursor=after)
    if after is not None and not as_json:
        print(f"there are more; --limit or --cursor {after} shows them", file=sys.stderr)
