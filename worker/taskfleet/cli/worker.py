"""`taskfleet worker`."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import typer

from taskfleet import showing
from taskfleet.cli import connecting, worker_command
from taskfleet.cli.connecting import REDIS
from taskfleet.cli.log_options import LOG_FORMAT

if TYPE_CHECKING:
    from taskfleet.middleware import WorkerContext
    from taskfleet.process.merged_figures import MergedFigures
    from taskfleet.queue import TaskQueue

# Once `taskfleet dev` is killed, its Valkey is gone too: no end of a task could be recorded.
_WITHOUT_REDIS_SECONDS = 1.0


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
        from taskfleet import logs

        logs.configure(log_level, log_format)
        from pathlib import Path

        from taskfleet.child_process import Parent
        from taskfleet.errors import ConfigurationError
        from taskfleet.process import figures_pipe, forking, requests, worker_process
        from taskfleet.process.loading import load_app
        from taskfleet.process.reloading import Reloader
        from taskfleet.process.supervisor import InForkedProcess, Supervisor
        from taskfleet.runtime.state import selection

        handed, told = worker_command.passed_on()
        redis = redis or handed
        parent, figures = Parent(), figures_pipe.inherited()
        requests.end_at_once()  # until there is a worker to drain

        names = tuple(each.strip() for each in queues.split(",") if each.strip())
        if queues and not names:
            raise ConfigurationError(f"--queues {queues!r} names no queue")
        for option, given in (("--burst", burst), ("--probe-port", probe_port)):
            if reload and given:
                raise ConfigurationError(f"--reload is for development, and does not go with {option}: leave one out")
        queue = load_app(application)
        known = queue.application.named_queues
        tiers = selection.tiers_of(queue.application, names)  # an invalid name is an error, before any process starts
        if number == 0:
            _warn_of_typing_errors(known, {each for tier in tiers for each in tier.names})
        if check:
            return 0
        # Of several processes the supervisor alone has the port, and shows the figures of all.
        port_of_each = 0 if processes > 1 else probe_port
        command = worker_command.WorkerCommand(application, queues, concurrency, port_of_each, probe_host, name, burst)
        if reload or processes > 1:
            worker_command.pass_on(redis)
        if reload:
            say = showing.logger("taskfleet.worker").warning
            with Reloader(Path.cwd(), command.check(), lambda text: say("%s", text)) as reloader:
                supervisor = Supervisor(_renamed(command), processes, replace=reloader.due)
                return supervisor.run(parent, worker_process.patience(queue))
        if processes > 1:
            if obstacle := forking.obstacle():
                showing.logger("taskfleet.worker").info("each process imports the application itself: %s", obstacle)
            else:
                worker_process.import_for_children()
            try:
                with _probes(processes, probe_host, probe_port) as (merged, serve):
                    supervisor = Supervisor(command.of, processes, burst=burst, figures=merged, forks=not obstacle)
                    supervisor.on_started = serve
                    return supervisor.run(parent, worker_process.patience(queue))
            except InForkedProcess as this:
                worker_command.passed_on()
                number, parent, figures, probe_port, told = this.number, this.parent, this.figures, 0, ""
        with connecting.redirected(queue, redis):
            if told:
                _tell_of_tasks(queue)
            options = worker_process.ProcessOptions(
                queues=names,
                concurrency=concurrency,
                number=number,
                probe_host=probe_host,
                probe_port=probe_port,
                burst=burst,
                name=name or None,
                figures=figures,
                orphan_seconds=_WITHOUT_REDIS_SECONDS if told == worker_command.DEV_WITH_VALKEY else None,
            )
            return worker_process.run(queue, options, parent)


@contextlib.contextmanager
def _probes(processes: int, host: str, port: int) -> Generator[tuple[MergedFigures | None, Callable[[], None]]]:
    """The figures of all processes, and what serves them and the probes on one port; without a port there are none."""
    if not port:
        yield None, lambda: None
        return
    from taskfleet.process.merged_figures import MergedFigures
    from taskfleet.process.probes import ProbeServer

    merged = MergedFigures(processes)
    server = ProbeServer(merged, merged, host, port)
    try:
        yield merged, server.start
    finally:
        server.close()


def _renamed(command: worker_command.WorkerCommand) -> Callable[[int], list[str]]:
    """Command lines with a new name for each process: one that is replaced finishes its tasks beside its successor."""
    name = command.name or os.environ.get("TASKFLEET_WORKER_NAME", "")
    serial = itertools.count(1)
    return lambda n: dataclasses.replace(command, name=f"{name}-{next(serial)}" if name else "").of(n)


def _tell_of_tasks(queue: TaskQueue) -> None:
    """A line on the terminal for what happens to tasks, in place of the log that a service has."""
    import logging

    from taskfleet import logs, showing
    from taskfleet.cli import terminal
    from taskfleet.cli.task_lines import TaskLines, unprinted
    from taskfleet.tasks.namespace import CLASS_TASKS

    if not os.environ.get(logs.VARIABLE):
        showing.logger("taskfleet").setLevel(logging.WARNING)  # the log of the application itself stays

    showing.logger("taskfleet.worker").addFilter(unprinted)

    def ready(worker: WorkerContext) -> None:
        tasks = ", ".join(sorted(each.name for each in (*queue.application.registry, *CLASS_TASKS))) or "none"
        terminal.say(f"worker {worker.name} is ready; queues: {', '.join(worker.queues)}; tasks: {tasks}")

    queue.add_middleware(TaskLines(ready))


def _warn_of_typing_errors(known: set[str], chosen: set[str]) -> None:
    """A queue that the application does not name may get tasks all the same: from `.options(queue=…)`, or elsewhere."""
    from taskfleet import checks

    for name in sorted(chosen - known):
        if "/" not in name and (hint := checks.did_you_mean(name, known)):
            showing.logger("taskfleet.worker").warning("no task of the application goes to queue %r%s", name, hint)
