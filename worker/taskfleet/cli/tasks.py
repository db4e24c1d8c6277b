"""`taskfleet enqueue`, `taskfleet task show|cancel`."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import typer

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.handles import TaskHandle
from taskfleet.queue import TaskQueue
from taskfleet.showing import shown
from taskfleet.tasks.message import Message


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def enqueue(  # pyright: ignore[reportUnusedFunction]
        task: str = typer.Argument(..., help="The task's name."),
        application: str = typer.Option(..., "--app", help="module:attribute of the TaskQueue."),
        args: str = typer.Option("[]", help="Arguments as JSON: a list, or an object of named ones."),
        queue: str = typer.Option("", help="Another queue than the task's own."),
        delay: float = typer.Option(0.0, help="Seconds until it is ready.", min=0.0),
        wait: float = typer.Option(0.0, help="Seconds to wait for the result, which is printed as JSON.", min=0.0),
    ) -> int:
        """Send one task and print its id."""
        from taskfleet.process.loading import load_app

        wait = checks.seconds("--wait", wait)  # before anything is sent
        target = load_app(application)
        positional, named = _arguments(args)
        definition = target.application.find_task(task)
        if definition is None:
            target.registry.get(task)
            raise AssertionError("unreachable")
        options = definition.options.for_call({"queue": queue or None, "delay": delay})
        message: Message[Any] = Message(definition, positional, named, options)
        return asyncio.run(_enqueue(target, message, wait))

    group = typer.Typer(help="A single task.", no_args_is_help=True)

    @group.command()
    def show(  # pyright: ignore[reportUnusedFunction]
        task_id: str = typer.Argument(..., metavar="ID"), as_json: bool = typer.Option(False, "--json")
    ) -> int:
        """Print the status of a task."""
        return asyncio.run(_show(task_id, as_json))

    @group.command()
    def cancel(task_id: str = typer.Argument(..., metavar="ID")) -> int:  # pyright: ignore[reportUnusedFunction]
        """Cancel a task that waits or runs."""
        return asyncio.run(_cancel(task_id))

    app.add_typer(group, name="task")


def _arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--args is not JSON: {error}") from None
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict):
        return (), value
    raise ConfigurationError("--args must be a JSON list, or an object of named arguments")


async def _enqueue(queue: TaskQueue, message: Message[Any], wait: float) -> int:
    async with queue:
        handle: TaskHandle[Any] = await queue.send(message)
        print(handle.id, flush=True)
        if wait:
            print(_json(await handle.result(timeout=wait)))
    return 0


async def _show(task_id: str, as_json: bool) -> int:
    async with TaskQueue.from_config() as queue:
        handle = queue.handle(task_id)
        status = await handle.status()
        print(json.dumps({"id": task_id, "queue": handle.queue, "status": status}) if as_json else shown(status))
    return 0 if status != "unknown" else 1


async def _cancel(task_id: str) -> int:
    async with TaskQueue.from_config() as queue:
        changed = await queue.handle(task_id).cancel()
        print("cancelled" if changed else "nothing to cancel")
    return 0 if changed else 1


def _json(value: object) -> str:
    """A result as one line of JSON. JSON has no NaN and no infinity; they become text."""
    from pydantic_core import to_jsonable_python

    return json.dumps(_finite(to_jsonable_python(value, bytes_mode="base64", serialize_unknown=True)), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
