"""`taskfleet schedules list|add|run|pause|resume|remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import typer

from taskfleet.cli import arguments, asking, completing, connecting, listing, similar
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.cli.listing import Column
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue
    from taskfleet.scheduling.schedule import ConcurrencyPolicy, Schedule

_NAME = typer.Argument(..., metavar="NAME", autocompletion=completing.schedules)

_COLUMNS: list[Column[Schedule]] = [
    Column("name", lambda schedule: schedule.name, name=True),
    Column("when", lambda schedule: when(schedule), name=True),
    Column("zone", lambda schedule: schedule.time_zone if schedule.schedule else "-", cut=True),
    Column("task", lambda schedule: schedule.task, cut=True),
    Column("queue", lambda schedule: schedule.queue, cut=True),
    Column("next (UTC)", lambda schedule: "paused" if schedule.paused else listing.moment(schedule.next_at)),
    Column("fired", lambda schedule: schedule.fired_total, right=True),
    Column("missed", lambda schedule: schedule.skipped_total + schedule.dropped_total, right=True),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Schedules.", no_args_is_help=True)
    _register_changes(group)

    @group.command("list")
    def list_(redis: str = REDIS, as_json: bool = JSON) -> int:  # pyright: ignore[reportUnusedFunction]
        """List all schedules with their next tick in UTC."""

        async def show(queue: TaskQueue) -> None:
            from taskfleet.scheduling.schedule import as_json as record

            found = await queue.list_schedules()
            none = "there is no schedule; add one with: taskfleet schedules add"
            listing.show(found, _COLUMNS, record, as_json=as_json, none=none)

        return with_queue(redis, show)

    @group.command()
    def add(  # pyright: ignore[reportUnusedFunction]
        name: str = _NAME,
        task: str = typer.Option(..., help="The task's name.", autocompletion=completing.tasks),
        schedule: str = typer.Option("", help="Five cron fields, six with seconds first, or @daily and the like."),
        every: float | None = typer.Option(None, help="In place of --schedule: seconds between ticks.", min=0.0),
        args: str = typer.Option("[]", help="Arguments as JSON: a list, or an object of named ones."),
        application: str = typer.Option("", "--app", help="module:attribute; checks task and arguments by its code."),
        queue: str = typer.Option("", help="Another queue than the task's own.", autocompletion=completing.queues),
        time_zone: str = typer.Option("", help="The time zone of --schedule; default UTC."),
        starting_deadline: float | None = typer.Option(
            None, help="Drop a tick that is later than this, in seconds.", min=0.0
        ),
        concurrency_policy: str = typer.Option("Allow", help="Allow, Forbid or Replace."),
        paused: bool = typer.Option(False, "--paused", help="Without ticks, until it is resumed."),
        redis: str = REDIS,
    ) -> int:
        """Add a schedule, or replace the one of that name."""
        positional, named = arguments.parsed(args, "--args")

        async def insert(target: TaskQueue) -> None:
            if application:
                arguments.definition_of(target, task)
            await similar.new_or_known_queue(target, queue)
            replaced = any(one.name == name for one in await target.list_schedules())
            new = await target.add_schedule(
                name=name, task=task, schedule=schedule or None, every=every, args=positional, kwargs=named,
                queue=queue or None, time_zone=time_zone or None, starting_deadline_seconds=starting_deadline,
                concurrency_policy=cast("ConcurrencyPolicy", concurrency_policy), paused=paused,
            )  # fmt: skip
            next_tick = "paused" if new.paused else f"next tick {listing.moment(new.next_at)} UTC"
            print(f"schedule {name!r} is {'replaced' if replaced else 'added'}: {next_tick}")

        if not application:
            return with_queue(redis, insert)
        return connecting.with_app(application, redis, insert)

    app.add_typer(group, name="schedules")


def _register_changes(group: typer.Typer) -> None:
    """The commands on one schedule."""

    @group.command()
    def run(name: str = _NAME, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Send the task of a schedule now, beside its ticks, and print its id."""

        async def send(queue: TaskQueue) -> None:
            await _known(queue, name)
            print((await queue.run_schedule(name)).id)

        return with_queue(redis, send)

    @group.command()
    def pause(name: str = _NAME, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Keep a schedule without ticks."""

        async def stop(queue: TaskQueue) -> None:
            await _known(queue, name)
            await queue.pause_schedule(name)
            print(f"schedule {name!r} is paused")

        return with_queue(redis, stop)

    @group.command()
    def resume(name: str = _NAME, redis: str = REDIS) -> int:  # pyright: ignore[reportUnusedFunction]
        """Let a paused schedule tick again, from now on."""

        async def go_on(queue: TaskQueue) -> None:
            await _known(queue, name)
            await queue.resume_schedule(name)
            found = await _known(queue, name)
            print(f"schedule {name!r} ticks: next tick {listing.moment(found.next_at)} UTC")

        return with_queue(redis, go_on)

    @group.command()
    def remove(  # pyright: ignore[reportUnusedFunction]
        name: str = _NAME, yes: bool = asking.YES, redis: str = REDIS
    ) -> int:
        """Remove a schedule; tasks that it has enqueued stay."""

        async def delete(queue: TaskQueue) -> None:
            await _known(queue, name)
            asking.ask(f"Remove schedule {name!r}", yes=yes)
            await queue.remove_schedule(name)
            print("removed")

        return with_queue(redis, delete)


async def _known(queue: TaskQueue, name: str) -> Any:
    schedules = {schedule.name: schedule for schedule in await queue.list_schedules()}
    if name not in schedules:
        raise similar.unknown("no schedule is named", name, schedules)
    return schedules[name]


def when(schedule: Schedule) -> str:
    """The times of a schedule, as a person writes them."""
    return schedule.schedule or f"every {schedule.every:g} s"
