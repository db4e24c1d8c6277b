"""`taskfleet worker`."""

from __future__ import annotations

import typer

from taskfleet.cli.connecting import REDIS
from taskfleet.cli.log_options import LOG_FORMAT
from taskfleet.cli.worker_options import WorkerOptions


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker(  # pyright: ignore[reportUnusedFunction]
        application: str = typer.Argument(..., metavar="APP", help="module:attribute of the TaskQueue."),
        queues: str = typer.Option("", help="Which queues, in tiers of their options; or weighted: high:6,default:3."),
        concurrency: int | None = typer.Option(
            None, help="Slots; default workers.max_concurrent_tasks.", min=1, max=10_000
        ),
        processes: int = typer.Option(1, help="Processes, each with that many slots.", min=1, max=256),
        name: str = typer.Option("", help="Its name, one in the fleet; default TASKFLEET_WORKER_NAME, else made."),
        burst: bool = typer.Option(False, "--burst", help="End when the queues are empty."),
        probe_port: int = typer.Option(0, help="Serve /livez, /readyz, /metrics here; 0 is off.", min=0, max=65535),
        probe_host: str = typer.Option("::", help="Where the probes listen; :: is all addresses, IPv4 and IPv6."),
        log_level: str = typer.Option(
            "", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO."
        ),
        log_format: str = LOG_FORMAT,
        reload: bool = typer.Option(False, "--reload", help="Replace the workers when Python files here change."),
        redis: str = REDIS,
        number: int = typer.Option(0, hidden=True),
        check: bool = typer.Option(False, "--check", hidden=True),
    ) -> int:
        """Run a worker until SIGTERM or Ctrl-C drains it."""
        from taskfleet.cli import worker_run

        options = WorkerOptions(
            application=application,
            queues=queues,
            concurrency=concurrency,
            processes=processes,
            name=name,
            burst=burst,
            probe_port=probe_port,
            probe_host=probe_host,
            log_level=log_level,
            log_format=log_format,
            reload=reload,
            redis=redis,
            number=number,
            check=check,
        )
        return worker_run.run(options)
