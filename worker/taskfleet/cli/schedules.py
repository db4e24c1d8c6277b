"""`taskfleet schedules list|remove`."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import typer

from taskfleet.queue import TaskQueue
from taskfleet.scheduling.schedule import Schedule, as_json
from taskfleet.showing import shown

_HEADS = ("name", "when", "zone", "task", "queue", "next", "last", "fired", "skipped", "dropped")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Schedules.", no_args_is_help=True)

    @group.command("list")
    def list_(as_json: bool = typer.Option(False, "--json")) -> int:  # pyright: ignore[reportUnusedFunction]
        """List all schedules with their last and next tick in UTC."""
        return asyncio.run(_list(as_json))

    @group.command()
    def remove(  # pyright: ignore[reportUnusedFunction]
        name: str, yes: bool = typer.Option(False, "--yes", help="Do not ask.")
    ) -> int:
        """Remove a schedule; tasks that it has enqueued stay."""
        if not yes:
            typer.confirm(f"Remove schedule {name!r}?", abort=True)
        return asyncio.run(_remove(name))

    app.add_typer(group, name="schedules")


async def _list(json_lines: bool) -> int:
    async with TaskQueue.from_config() as queue:
        schedules = await queue.list_schedules()
    if json_lines:
        print(json.dumps([as_json(schedule) for schedule in schedules]))
        return 0
    rows = [_HEADS, *(tuple(map(shown, _row(schedule))) for schedule in schedules)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(schedule: Schedule) -> tuple[str, ...]:
    return (
        schedule.name, schedule.schedule or f"every {schedule.every:g} s", schedule.time_zone, schedule.task,
        schedule.queue, "paused" if schedule.paused else _time(schedule.next_at), _time(schedule.last_at),
        str(schedule.fired_total), str(schedule.skipped_total), str(schedule.dropped_total),
    )  # fmt: skip


async def _remove(name: str) -> int:
    async with TaskQueue.from_config() as queue:
        removed = await queue.remove_schedule(name)
    print("removed" if removed else f"no schedule is named {name!r}")
    return 0 if removed else 1


def _time(moment: datetime | None) -> str:
    return f"{moment:%F %T}" if moment is not None else "-"
