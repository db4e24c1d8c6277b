"""`kubectl taskfleet top`: the fleet at one moment, or again and again."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import typer

from taskfleet.cli import listing
from taskfleet.cli.listing import Column

from . import options, queues
from .options import Target

_SCALERS: list[Column[dict[str, Any]]] = [
    Column("autoscaler", lambda row: row["name"], name=True),
    Column("workers", lambda row: row["replicas"], right=True),
    Column("wanted", lambda row: row["desired"], right=True),
    Column("busy", lambda row: "-" if row["busy"] is None else row["busy"], right=True),
    Column("reason", lambda row: row["reason"], cut=True),
    Column("limited by", lambda row: row["limited_by"] or "-", cut=True),
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    @options.on_dashboard
    def top(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        sort: str = typer.Option(
            "ready", help="The largest first: ready, running, dead, oldest, in, out, failed; name."
        ),
        limit: int = typer.Option(15, help="The most queues.", min=1, max=500),
        watch: float = typer.Option(
            0.0, "--watch", "-w", help="Again every so many seconds; 0: once.", min=0, max=3600
        ),
    ) -> int:
        """Show the fleet: sums, workers, autoscalers, and the queues with the most to do."""
        while True:
            found = target.dashboard.get("overview", sort=sort, limit=limit)
            if target.as_json:
                print(json.dumps(found), flush=True)
            else:
                if watch and sys.stdout.isatty():
                    print("\x1b[H\x1b[2J", end="")
                _show(found)
                sys.stdout.flush()
            if not watch:
                return 0
            time.sleep(watch)


def _show(found: dict[str, Any]) -> None:
    sums, workers = found["totals"], found["workers"]
    drains = sums["drains_in_seconds"]
    print(
        f"tasks    {sums['ready']} ready, {sums['running']} running, {sums['delayed']} delayed, {sums['dead']} dead\n"
        f"rates    {queues.per_second(sums['in_per_second'])} in, {queues.per_second(sums['out_per_second'])} out, "
        f"{queues.per_second(sums['failed_per_second'])} failed"
        f"{'' if drains is None or not sums['ready'] else f'; gone in {listing.age(drains)}'}\n"
        f"workers  {workers['busy']} busy, {workers['idle']} idle, {workers['cordoned']} cordoned, "
        f"{workers['draining']} draining; {workers['running']}/{workers['slots']} slots"
    )
    if found["scalers"]:
        print()
        listing.table(_SCALERS, found["scalers"])
    if found["queues"]["items"]:
        print()
        listing.table(queues.COLUMNS, found["queues"]["items"])
        left = found["queues"]["total"] - len(found["queues"]["items"])
        if left > 0:
            print(f"and {left} more; --limit shows them")
