"""`taskfleet worker`."""

from __future__ import annotations

import sys

import typer

from taskfleet import logs
from taskfleet.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker(  # pyright: ignore[reportUnusedFunction]
        application: str = typer.Argument(..., metavar="APP", help="module:attribute of the TaskQueue."),
        queues: str = typer.Option("", help="Which queues, in tiers of their options; or weighted: high:6,default:3."),
        concurrency: int = typer.Option(0, help="Slots; 0 takes workers.max_concurrent_tasks.", min=0, max=10_000),
        processes: int = typer.Option(1, help="Processes, each with that many slots.", min=1, max=256),
        probe_port: int = typer.Option(0, help="Serve /livez, /readyz, /metrics here; 0 is off.", min=0, max=65535),
        probe_host: str = typer.Option("::", help="Where the probes listen; :: is all addresses, IPv4 and IPv6."),
        log_level: str = typer.Option(
            "", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO."
        ),
        number: int = typer.Option(0, hidden=True),
    ) -> int:
        """Run a worker until SIGTERM or Ctrl-C drains it."""
        logs.configure(log_level)
        from taskfleet.child_process import Parent
        from taskfleet.process import requests, worker_process
        from taskfleet.process.loading import load_app
        from taskfleet.process.supervisor import Supervisor
        from taskfleet.runtime.state import selection

        parent = Parent()
        requests.end_at_once()  # until there is a worker to drain

        names = tuple(name.strip() for name in queues.split(",") if name.strip())
        if queues and not names:
            raise ConfigurationError(f"--queues {queues!r} names no queue")
        queue = load_app(application)
        selection.tiers_of(queue.application, names)  # an invalid name is an error here, before any process starts
        if processes > 1:
            supervisor = Supervisor(
                lambda n: [
                    sys.executable, "-m", "taskfleet", "worker", application, "--number", str(n),
                    *(["--queues", queues] if queues else []), "--concurrency", str(concurrency),
                    "--probe-port", str(probe_port + n if probe_port else 0), "--probe-host", probe_host,
                ],
                processes,
            )  # fmt: skip
            return supervisor.run(parent, worker_process.patience(queue))
        options = worker_process.ProcessOptions(
            queues=names,
            concurrency=concurrency or None,
            number=number,
            probe_host=probe_host,
            probe_port=probe_port,
        )
        return worker_process.run(queue, options, parent)
