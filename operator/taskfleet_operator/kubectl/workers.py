"""`kubectl taskfleet workers`, `cordon`, `uncordon`, `drain`."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import typer

from taskfleet.cli import listing, similar
from taskfleet.cli.listing import Column

from . import options
from .dashboard import Dashboard
from .options import Target

_LOOK_SECONDS = 1.0
_WORKER = typer.Argument(..., metavar="WORKER", help="The name of a worker: in a cluster, that of its pod.")

_COLUMNS: list[Column[dict[str, Any]]] = [
    Column("worker", lambda row: row["name"], name=True),
    Column("host", lambda row: row["host"] or "-", cut=True),
    Column("queues", lambda row: ",".join(row["queues"]), cut=True),
    Column("busy", lambda row: f"{row['busy']}/{row['slots']}", right=True),
    Column("oldest", lambda row: listing.age(row["oldest_run_seconds"]), right=True),
    Column("version", lambda row: row["version"] or "-", cut=True),
    Column("beat", lambda row: listing.age(row["heartbeat_age_seconds"]), right=True),
    Column("state", lambda row: row["state"]),
]


def all_workers(dashboard: Dashboard) -> list[dict[str, Any]]:
    """The rows of all workers."""
    rows: list[dict[str, Any]] = dashboard.get("workers")["items"]
    return rows


def known(dashboard: Dashboard, given: str) -> str:
    """The name of a worker, its id or `pod/NAME`, as its name. Errors: `UnknownNameError` with a similar one."""
    rows = all_workers(dashboard)
    name = given.removeprefix("pod/")
    for row in rows:
        if name in (row["name"], row["id"]):
            return str(row["name"])
    raise similar.unknown("there is no worker", name, [row["name"] for row in rows])


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    @options.on_dashboard
    def workers(  # pyright: ignore[reportUnusedFunction]
        target: Target,
    ) -> int:
        """List the live workers: host, queues, busy slots, oldest run, version, last heartbeat, state."""
        rows = all_workers(target.dashboard)
        listing.show(rows, _COLUMNS, lambda row: row, as_json=target.as_json, none="no worker lives")
        return 0

    def change(target: Target, given: str, action: str) -> int:
        name = known(target.dashboard, given)
        answer = target.dashboard.post(f"workers/{quote(name, safe='')}/{action}")
        more = f": {answer['detail']}" if answer["detail"] else ""
        done = f"worker {name} {action}ed" if answer["changed"] else f"worker {name} is as it was"
        target.tell({"worker": name, **answer}, f"{done}{more}")
        return 0

    @app.command()
    @options.on_dashboard
    def cordon(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        worker: str = _WORKER,
    ) -> int:
        """Let a worker claim nothing more, for a day or until `uncordon`; its tasks go on."""
        return change(target, worker, "cordon")

    @app.command()
    @options.on_dashboard
    def uncordon(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        worker: str = _WORKER,
    ) -> int:
        """Let a cordoned worker claim again."""
        return change(target, worker, "uncordon")

    @app.command()
    @options.on_dashboard
    def drain(  # pyright: ignore[reportUnusedFunction]
        target: Target,
        worker: str = _WORKER,
        timeout: float = typer.Option(300.0, help="Wait so many seconds for its tasks.", min=0.0, max=86_400.0),
    ) -> int:
        """Cordon a worker, and wait until it runs nothing any more. It stays cordoned."""
        name = known(target.dashboard, worker)
        target.dashboard.post(f"workers/{quote(name, safe='')}/cordon")
        until = time.monotonic() + timeout
        while True:
            rows = [row for row in all_workers(target.dashboard) if row["name"] == name]
            busy = sum(row["busy"] for row in rows)
            if all(row["state"] == "drained" for row in rows):
                told = "drained" if rows else "gone"
                target.tell({"worker": name, "state": told, "busy": 0}, f"worker {name} {told}")
                return 0
            if time.monotonic() >= until:
                state = {"worker": name, "state": rows[0]["state"], "busy": busy}
                target.tell(state, f"worker {name} still runs {busy}; it stays cordoned")
                return 1
            time.sleep(_LOOK_SECONDS)
