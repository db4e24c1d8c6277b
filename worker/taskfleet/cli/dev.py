"""`taskfleet dev`: a Redis, workers and schedules for an application, on one terminal."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import connecting, redirecting, terminal
from taskfleet.cli.log_options import DASHBOARD_PORT, LOG_FORMAT, NO_DASHBOARD
from taskfleet.cli.worker_command import DEV, DEV_WITH_VALKEY, WorkerCommand, pass_on

if TYPE_CHECKING:
    from taskfleet.cli.dev_redis import DevRedis
    from taskfleet.queue import TaskQueue

_REDIS = connecting.redis_option("A Redis in place of the embedded Valkey; default: REDIS_URL, the file, the code.")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def dev(  # pyright: ignore[reportUnusedFunction]
        application: str = typer.Argument(..., metavar="APP", help="module:attribute of the TaskQueue."),
        redis: str = _REDIS,
        port: int | None = typer.Option(None, help="Start the Valkey on this port; default 6379.", min=1, max=65535),
        queues: str = typer.Option("", help="Which queues, as for `worker`; default all."),
        concurrency: int | None = typer.Option(
            None, help="Slots of each worker; default workers.max_concurrent_tasks.", min=1, max=10_000
        ),
        processes: int = typer.Option(1, help="Workers.", min=1, max=256),
        log_level: str = typer.Option("", help="Of the workers' log; default WARNING, and INFO for your own."),
        log_format: str = LOG_FORMAT,
        no_dashboard: bool = NO_DASHBOARD,
        dashboard_port: int | None = DASHBOARD_PORT,
    ) -> int:
        """Run an application while you write it: Redis, workers, schedules, dashboard, reload."""
        from taskfleet import logs

        logs.configure(log_level, log_format)
        from taskfleet.cli import dev_redis
        from taskfleet.errors import ConfigurationError
        from taskfleet.parent_process import Parent
        from taskfleet.process import dashboard_process, worker_process
        from taskfleet.process.loading import load_app
        from taskfleet.process.reloading import Reloader
        from taskfleet.process.supervisor import Supervisor
        from taskfleet.runtime.state import selection

        names = tuple(each.strip() for each in queues.split(",") if each.strip())
        if queues and not names:
            raise ConfigurationError(f"--queues {queues!r} names no queue")
        queue = load_app(application)
        selection.tiers_of(queue.application, names)  # an invalid name is an error, before anything starts
        os.environ.pop("TASKFLEET_WORKER_NAME", None)  # several processes of this run may live at a time
        command = WorkerCommand(application, queues, concurrency)
        with (
            Reloader(Path.cwd(), command.check(), terminal.say) as reloader,
            dev_redis.chosen(queue, redis, port) as found,
        ):
            if left := _left(queue, found):
                terminal.say(f"left in Redis from before: {left}")
            pass_on(found.redirect, terminal=DEV if found.server is None else DEV_WITH_VALKEY)
            with dashboard_process.beside(
                application, dashboard_port, terminal.say, wanted=not no_dashboard
            ) as dashboard:

                def replace() -> bool:
                    found.tend()
                    if dashboard is not None:
                        dashboard.tend()
                    return reloader.due()

                supervisor = Supervisor(command.of, processes, replace=replace)
                grace = queue.settings.workers.shutdown_grace_period
                supervisor.on_drain = lambda: terminal.say(
                    f"draining: running tasks have {grace:g} s; Ctrl-C again ends at once"
                )
                code = supervisor.run(Parent(), worker_process.patience(queue))
            terminal.say(_end(queue, found))
        return code


def _end(queue: TaskQueue, found: DevRedis) -> str:
    """The last sentence."""
    from taskfleet.errors import TaskQueueError

    try:
        left = _left(queue, found)
    except (TaskQueueError, OSError) as error:
        return f"ended; what is left cannot be read: {error}"
    return f"ended; left in Redis, for the next worker: {left}" if left else "ended; no task is left"


def _left(queue: TaskQueue, found: DevRedis) -> str:
    """The tasks that have not ended, in words."""
    from taskfleet.protocol import stats

    async def read() -> str:
        async with queue:
            return stats.left_over(await queue.get_metrics())

    with redirecting.redirected(queue, found.redirect):
        return asyncio.run(read())
