"""`taskfleet workers`: the workers that live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from taskfleet.cli import listing
from taskfleet.cli.connecting import REDIS, with_queue
from taskfleet.cli.listing import Column
from taskfleet.cli.queues import JSON

if TYPE_CHECKING:
    from taskfleet.protocol.worker_info import WorkerInfo
    from taskfleet.queue import TaskQueue

_CORDONED = ("cordoned", "drained")

_COLUMNS: list[Column[WorkerInfo]] = [
    Column("worker", lambda worker: worker.worker_id, name=True),
    Column("host", lambda worker: worker.host or "-", cut=True),
    Column("queues", lambda worker: ",".join(worker.queues), cut=True),
    Column("busy", lambda worker: f"{worker.busy}/{worker.slots}", right=True),
    Column("oldest", lambda worker: listing.age(worker.oldest_run_seconds) if worker.busy else "-", right=True),
    Column("version", lambda worker: worker.version or "-", cut=True),
    Column("beat", lambda worker: listing.age(worker.heartbeat_age_seconds), right=True),
    Column("state", lambda worker: worker.state, cut=True),
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def workers(redis: str = REDIS, as_json: bool = JSON) -> int:  # pyright: ignore[reportUnusedFunction]
        """List the live workers: host, queues, busy slots, oldest run, version, last heartbeat, state."""

        async def show(queue: TaskQueue) -> None:
            found = sorted(await queue.workers(), key=lambda worker: worker.worker_id)
            none = "no worker lives; start one with: taskfleet worker APP"
            listing.show(found, _COLUMNS, record, as_json=as_json, none=none)

        return with_queue(redis, show)


def record(worker: WorkerInfo) -> dict[str, Any]:
    """The worker as it is printed in JSON."""
    return {
        "id": worker.worker_id, "name": worker.name, "host": worker.host, "pid": worker.pid, "queues": worker.queues,
        "slots": worker.slots, "busy": worker.busy, "stuck": worker.stuck,
        "oldest_run_seconds": worker.oldest_run_seconds, "idle_seconds": worker.idle_seconds,
        "version": worker.version, "heartbeat_age_seconds": worker.heartbeat_age_seconds,
        "started_at": datetime.fromtimestamp(worker.started_ms / 1000, UTC) if worker.started_ms else None,
        "state": worker.state, "cordoned": worker.state in _CORDONED, "sealed_only": worker.sealed_only,
    }  # fmt: skip
