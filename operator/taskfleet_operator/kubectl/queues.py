"""`kubectl taskfleet queues`, `pause`, `resume`."""

from __future__ import annotations

from typing import Any

import typer

from taskfleet.cli import listing, similar
from taskfleet.cli.listing import Column

from . import options
from .dashboard import Dashboard
from .options import Target

_PAGE, _MOST = 500, 100_000


def per_second(rate: float | None) -> str:
    """A rate in a table."""
    return "-" if rate is None else f"{rate:.3g}/s"


COLUMNS: list[Column[dict[str, Any]]] = [
    Column("queue", lambda row: row["name"], name=True),
    Column("ready", lambda row: row["ready"], right=True),
    Column("running", lambda row: row["running"], right=True),
    Column("delayed", lambda row: row["delayed"], right=True),
    Column("dead", lambda row: row["dead"], right=True),
    Column("oldest", lambda row: listing.age(row["oldest_age_seconds"]), right=True),
    Column("in", lambda row: per_second(row["in_per_second"]), right=True),
    Column("out", lambda row: per_second(row["out_per_second"]), right=True),
    Column("workers", lambda row: row["workers"], right=True),
    Column("state", lambda row: row["state"] or "-", cut=True),
]


def all_queues(dashboard: Dashboard, search: str = "") -> list[dict[str, Any]]:
    """The rows of all queues, by name."""
    rows: list[dict[str, Any]] = []
    while len(rows) < _MOST:
        page = dashboard.get("overview", search=search, sort="name", offset=len(rows), limit=_PAGE)["queues"]
        rows += page["items"]
        if not page["items"] or len(rows) >= page["total"]:
            break
    return rows


def known(dashboard: Dashboard, name: str) -> str:
    """The name, if there is such a queue. Errors: `UnknownNameError` with a similar one."""
    if all(row["name"] != name for row in all_queues(dashboard, name)):
        raise similar.unknown("there is no queue", name, [row["name"] for row in all_queues(dashboard)])
    return name


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    @options.on_dashboard
    def queues(  # pyright: ignore[reportUnusedFunction]
        target: Target,
    ) -> int:
        """List the queues with their figures."""
        rows = all_queues(target.dashboard)
        listing.show(rows, COLUMNS, lambda row: row, as_json=target.as_json, none="no queue has had a task yet")
        return 0

    def change(target: Target, name: str, action: str) -> int:
        answer = target.dashboard.post(f"queues/{_part(known(target.dashboard, name))}/{action}")
        target.tell({"queue": name, **answer}, f"queue {name} {action}d")
        return 0

    @app.command()
    @options.on_dashboard
    def pause(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        name: str = options.QUEUE,
    ) -> int:
        """Let workers claim no more tasks of a queue; tasks that run go on."""
        return change(target, name, "pause")

    @app.command()
    @options.on_dashboard
    def resume(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        name: str = options.QUEUE,
    ) -> int:
        """Let workers claim tasks of a paused queue again."""
        return change(target, name, "resume")


def _part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
