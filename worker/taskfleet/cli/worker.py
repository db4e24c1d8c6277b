"""`taskfleet worker`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from taskfleet.cli import connecting
from taskfleet.cli.connecting import REDIS

if TYPE_CHECKING:
    from taskfleet.application import Application


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker(  # pyright: ignore[reportUnusedFunction]
        application: str = typer.Argument(..., metavar="APP", help="module:attribute of the TaskQueue."),
        queues: str = typer.Option("", help="Which queues, in tiers of their options; or weighted: high:6,default:3."),
        concurrency: int = typer.Option(0, help="Slots; 0 takes workers.max_concurrent_tasks.", min=0, max=10_000),
        processes: int = typer.Option(1, help="Processes, each with that many slots.", min=1, max=256),
        name: str = typer.Option("", help="Its name, one in the fleet; default TASKFLEET_WORKER_NAME, else made."),
        burst: bool = typer.Option(False, "--burst", help="End when the queues are empty."),
        probe_port: int = typer.Option(0, help="Serve /livez, /readyz, /metrics here; 0 is off.", min=0, max=65535),
        probe_host: str = typer.Option("::", help="Where the probes listen; :: is all addresses, IPv4 and IPv6."),
        log_level: str = typer.Option(
            "", help="DEBUG, INFO, WARNING, ERROR or CRITICAL; default TASKFLEET_LOG_LEVEL, else INFO."
        ),
        redis: str = REDIS,
        number: int = typer.Option(0, hidden=True),
    ) -> int:
        """Run a worker until SIGTERM or Ctrl-C drains it."""
        from taskfleet import logs

        logs.configure(log_level)
        from taskfleet.child_process import Parent
        from taskfleet.errors import ConfigurationError
        from taskfleet.process import requests, worker_process
        from taskfleet.process.loading import load_app
        from taskfleet.process.supervisor import Supervisor
        from taskfleet.runtime.state import selection

        parent = Parent()
        requests.end_at_once()  # until there is a worker to drain

        names = tuple(each.strip() for each in queues.split(",") if each.strip())
        if queues and not names:
            raise ConfigurationError(f"--queues {queues!r} names no queue")
        queue = load_app(application)
        known = _queues_of(queue.application)
        tiers = selection.tiers_of(queue.application, names)  # an invalid name is an error, before any process starts
        if number == 0:
            _warn_of_typing_errors(known, {each for tier in tiers for each in tier.names})
        with connecting.redirected(queue, redis):
            if processes > 1:
                supervisor = Supervisor(
                    lambda n: [
                        sys.executable, "-m", "taskfleet", "worker", application, "--number", str(n),
                        *(["--queues", queues] if queues else []), "--concurrency", str(concurrency),
                        "--probe-port", str(probe_port + n if probe_port else 0), "--probe-host", probe_host,
                        *(["--name", name] if name else []), *(["--burst"] if burst else []),
                        *(["--redis", redis] if redis else []),
                    ],
                    processes,
                    burst=burst,
                )  # fmt: skip
                return supervisor.run(parent, worker_process.patience(queue))
            options = worker_process.ProcessOptions(
                queues=names,
                concurrency=concurrency or None,
                number=number,
                probe_host=probe_host,
                probe_port=probe_port,
                burst=burst,
                name=name or None,
            )
            return worker_process.run(queue, options, parent)


def _queues_of(application: Application) -> set[str]:
    known = {options.name for options in application.queue_options}
    return known | {definition.options.queue for definition in application.registry}


def _warn_of_typing_errors(known: set[str], chosen: set[str]) -> None:
    """A queue that the application does not name may get tasks all the same: from `.options(queue=…)`, or elsewhere."""
    from taskfleet import checks, showing

    for name in sorted(chosen - known):
        if "/" not in name and (hint := checks.did_you_mean(name, known)):
            showing.logger("taskfleet.worker").warning("no task of the application goes to queue %r%s", name, hint)
