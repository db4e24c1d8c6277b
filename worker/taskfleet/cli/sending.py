"""`taskfleet enqueue`: one task, or one for each line of a file."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from taskfleet.cli import arguments, completing, connecting, listing, similar
from taskfleet.cli.connecting import REDIS

if TYPE_CHECKING:
    from taskfleet.handles import TaskHandle
    from taskfleet.queue import TaskQueue

_UNTAKEN_SECONDS = 1.0  # after which a task that waits has its reason told


class _WaitWithoutSeconds(TyperCommand):
    """`--wait` alone waits without a limit. Typer has no option whose value may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        for position, each in enumerate(given):
            if each == "--":
                break
            if each == "--wait" and not _is_number(given[position + 1 : position + 2]):
                given[position] = "--wait=inf"
        found: list[str] = super().parse_args(ctx, given)
        return found


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(cls=_WaitWithoutSeconds)
    def enqueue(  # pyright: ignore[reportUnusedFunction]
        task: str = typer.Argument(..., help="The task's name.", autocompletion=completing.tasks),
        application: str = typer.Option(..., "--app", help="module:attribute of the TaskQueue."),
        args: str = typer.Option("", help="Arguments as JSON: a list, or an object of named ones; default []."),
        file: str = typer.Option("", help="A task for each line of this file, which is as --args; - is stdin."),
        queue: str = typer.Option("", help="Another queue than the task's own.", autocompletion=completing.queues),
        delay: float = typer.Option(0.0, help="Seconds until it is ready.", min=0.0),
        wait: float | None = typer.Option(
            None, metavar="[SECONDS]", help="Wait for the result, at most that long, and print it as JSON.", min=0.0
        ),
        redis: str = REDIS,
        as_json: bool = typer.Option(False, "--json", help="Print one object for each task sent, one a line."),
    ) -> int:
        """Send one task and print its id, or one task for each line of a file."""
        from taskfleet import checks
        from taskfleet.errors import ConfigurationError

        if wait is not None and wait != math.inf:
            wait = checks.seconds("--wait", wait)  # before anything is sent
        if file and (args or wait is not None):
            raise ConfigurationError(f"--file and --{'args' if args else 'wait'} do not go together")
        positional, named = arguments.parsed(args or "[]", "--args")
        if file:
            from taskfleet.cli import bulk

            return bulk.send(file, application, redis, task, queue=queue or None, delay=delay, as_json=as_json)

        async def send(target: TaskQueue) -> None:
            await similar.new_or_known_queue(target, queue)
            message = arguments.message_of(target, task, queue or None, delay)(positional, named)
            handle = await target.send(message)
            if wait is None or not as_json:
                record = {"id": handle.id, "queue": handle.queue}
                print(listing.as_text(record) if as_json else handle.id, flush=True)
            if wait is None:
                return
            result = await _result(target, handle, wait)
            record = {"id": handle.id, "queue": handle.queue, "result": result}
            print(listing.as_text(record if as_json else result))

        return connecting.with_app(application, redis, send)


async def _result(queue: TaskQueue, handle: TaskHandle[Any], wait: float) -> Any:
    """The result. A task that nobody takes is told on stderr once, with what to do."""
    import asyncio

    from taskfleet.cancellation import end
    from taskfleet.errors import TaskTimeoutError

    telling = asyncio.create_task(_tell_if_untaken(queue, handle, wait))
    try:
        return await handle.result(timeout=None if wait == math.inf else wait)
    except TaskTimeoutError as error:
        if error.timeout_seconds and (why := await _untaken(queue, handle)):
            raise TaskTimeoutError(f"{error}: {why}", task_id=handle.id, timeout_seconds=wait) from None
        raise
    finally:
        await end([telling])


async def _tell_if_untaken(queue: TaskQueue, handle: TaskHandle[Any], wait: float) -> None:
    import asyncio

    await asyncio.sleep(_UNTAKEN_SECONDS)
    if wait > _UNTAKEN_SECONDS and (why := await _untaken(queue, handle)):
        print(f"taskfleet: task {handle.id} waits: {why}", file=sys.stderr, flush=True)


async def _untaken(queue: TaskQueue, handle: TaskHandle[Any]) -> str:
    """Why nobody takes the task, and what to do; empty when it runs or will run."""
    name = handle.queue or ""
    status = await handle.status()
    if status == "delayed":
        return "it is delayed"
    if status != "ready":
        return ""
    if (await queue.queue_stats(name)).paused:
        return f"queue {name!r} is paused; resume it with: taskfleet resume {name}"
    workers = await queue.workers()
    if any(name in worker.queues for worker in workers):
        return ""
    others = f" ({len(workers)} take other queues)" if workers else ""
    return f"no worker takes queue {name!r}{others}; start one with: taskfleet worker APP"


def _is_number(words: Sequence[str]) -> bool:
    try:
        float(words[0])
    except (ValueError, IndexError):
        return False
    return True
