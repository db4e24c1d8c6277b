"""`kubectl taskfleet dead list|show|requeue|discard|undo`."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import typer

from taskfleet.cli import asking, listing, traces
from taskfleet.cli.listing import Column
from taskfleet.errors import ConfigurationError

from . import options
from .cluster import ClusterError
from .dashboard import Dashboard
from .options import Target
from .queues import known

_LOOK_SECONDS = 0.3
_PAGE = 500

_COLUMNS: list[Column[dict[str, Any]]] = [
    Column("id", lambda row: row["id"]),
    Column("queue", lambda row: row["queue"], cut=True),
    Column("task", lambda row: row["task"] or "-", cut=True),
    Column("reason", lambda row: row["reason"], cut=True),
    Column("error", lambda row: row["error"], cut=True),
]
_OF_QUEUE = typer.Option("", "--queue", "-q", metavar="QUEUE", help="Only of this queue.")
_OF_TASK = typer.Option("", "--task", metavar="NAME", help="Only of this task name.")
_REASON = typer.Option("", "--reason", help="Only with this reason.")
_IDS = typer.Argument(None, metavar="[ID]...", help="Without ids: all that match, after a question.")
_ID = typer.Argument(..., metavar="ID")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Dead letters: tasks that have failed for good.", no_args_is_help=True, rich_markup_mode=None
    )

    @group.command("list")
    @options.on_dashboard
    def list_(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        queue: str = _OF_QUEUE,
        task: str = _OF_TASK,
        reason: str = _REASON,
        limit: int = typer.Option(20, help="How many.", min=1, max=_PAGE),
    ) -> int:
        """List dead letters with their reasons, the latest of each queue first."""
        if queue:
            known(target.dashboard, queue)
        found = target.dashboard.get("dead", queue=queue, task=task, reason=reason, limit=limit)
        listing.show(
            found["items"], _COLUMNS, lambda row: row, as_json=target.as_json, none="there is no dead letter",
            more={"cursor": found["cursor"], "problems": found.get("problems", [])},
        )  # fmt: skip
        for line in found.get("problems", []):  # older dashboards have none
            options.say(f"taskfleet: {line}")
        if found["cursor"] and not target.as_json:
            options.say("taskfleet: there are more; --limit gives up to 500")
        return 0

    @group.command()
    @options.on_dashboard
    def show(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        task_id: str = _ID,
    ) -> int:
        """Show one dead letter with its whole error and its traceback."""
        found = target.dashboard.get(f"dead/{quote(task_id, safe='')}")
        if target.as_json:
            print(json.dumps(found))
            return 0
        names = ("id", "task", "queue", "state", "enqueued_at", "died_at", "attempts", "reason", "error")
        listing.fields([(name.removesuffix("_at"), found.get(name)) for name in names])
        if found.get("traceback"):
            print(traces.shown_trace(str(found["traceback"])))
        return 0

    @group.command()
    @options.on_dashboard
    def requeue(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        ids: list[str] = _IDS,
        queue: str = _OF_QUEUE,
        task: str = _OF_TASK,
        reason: str = _REASON,
        yes: bool = asking.YES,
    ) -> int:
        """Put dead letters back into their queues."""
        return _change(target, "requeue", ids, {"queue": queue, "task": task, "reason": reason}, yes)

    @group.command()
    @options.on_dashboard
    def discard(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        ids: list[str] = _IDS,
        queue: str = _OF_QUEUE,
        task: str = _OF_TASK,
        reason: str = _REASON,
        yes: bool = asking.YES,
    ) -> int:
        """Delete dead letters; `undo` brings them back for ten minutes."""
        return _change(target, "discard", ids, {"queue": queue, "task": task, "reason": reason}, yes)

    @group.command()
    @options.on_dashboard
    def undo(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        job: str = typer.Argument(..., metavar="JOB", help="That `discard` has printed."),
    ) -> int:
        """Bring the letters of a discard back."""
        done = target.dashboard.post(f"jobs/{quote(job, safe='')}/undo")
        target.tell(done, f"job {job}: {done['state']}")
        return 0

    app.add_typer(group, name="dead")


def _change(target: Target, action: str, ids: list[str] | None, match: dict[str, str], yes: bool) -> int:
    given = {name: value for name, value in match.items() if value}
    if ids and given:
        raise ConfigurationError("give either ids, or --queue, --task and --reason")
    if given.get("queue"):
        known(target.dashboard, given["queue"])
    orders: list[dict[str, Any]]
    if ids:
        orders = _by_queue(target.dashboard, ids)
    else:
        what = ", ".join(f"{name} {value}" for name, value in given.items())
        asking.ask(f"{action.capitalize()} all dead letters{f' of {what}' if what else ' of all queues'}", yes=yes)
        orders = [{"match": given}]
    jobs = [_ended(target.dashboard, target.dashboard.post(f"dead/{action}", order)["job"]) for order in orders]
    done, stayed = sum(job["done"] for job in jobs), sum(job["stayed"] for job in jobs)
    errors = [job["error"] for job in jobs if job["error"]]
    target.tell(
        {"items": jobs}, f"{done} dead letter{'' if done == 1 else 's'} {action}{'d' if action == 'requeue' else 'ed'}"
    )
    for job in jobs:
        if job["undo_until"]:
            options.say(f"taskfleet: for ten minutes: kubectl taskfleet dead undo {job['job']}")
    if stayed:
        options.say(f"taskfleet: {stayed} stayed: cancelled, damaged, or another task has their unique key")
    for error in errors:
        options.say(f"taskfleet: {error}")
    return 1 if errors or stayed or (ids and done < len(set(ids))) else 0


def _by_queue(dashboard: Dashboard, ids: list[str]) -> list[dict[str, Any]]:
    queues: dict[str, list[str]] = {}
    for each in dict.fromkeys(ids):
        queue = dashboard.get(f"dead/{quote(each, safe='')}")["queue"]  # an unknown one changes nothing at all
        queues.setdefault(queue, []).append(each)
    return [{"queue": queue, "ids": some} for queue, some in queues.items()]


def _ended(dashboard: Dashboard, job: str) -> dict[str, Any]:
    while True:
        try:
            found = dashboard.get(f"jobs/{job}")
        except ClusterError as error:
            what = f"job {job} goes on without us; a discard is undone with: kubectl taskfleet dead undo {job}"
            raise ClusterError(f"{error}; {what}", error.status) from None
        if found["state"] != "running":
            return found
        time.sleep(_LOOK_SECONDS)
