"""What `taskfleet worker` does with `--processes` and `--reload`: it supervises the processes that run the tasks."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from taskfleet import showing
from taskfleet.cli import worker_command
from taskfleet.cli.worker_options import WorkerOptions
from taskfleet.parent_process import Parent

if TYPE_CHECKING:
    from taskfleet.process.merged_figures import MergedFigures
    from taskfleet.queue import TaskQueue


def supervise(given: WorkerOptions, queue: TaskQueue, parent: Parent) -> int:
    """Run several processes, or one that is replaced when files change. A forked one gets `InForkedProcess`."""
    from taskfleet.process import worker_process
    from taskfleet.process.supervisor import Supervisor

    # Of several processes the supervisor alone has the port, and shows the figures of all.
    port_of_each = 0 if given.processes > 1 else given.probe_port
    command = worker_command.WorkerCommand(
        given.application, given.queues, given.concurrency, port_of_each, given.probe_host, given.name, given.burst
    )
    if given.reload:
        from taskfleet.process.reloading import Reloader

        say = showing.logger("taskfleet.worker").warning
        with Reloader(Path.cwd(), command.check(), lambda text: say("%s", text)) as reloader:
            supervisor = Supervisor(_renamed(command), given.processes, replace=reloader.due)
            return supervisor.run(parent, worker_process.patience(queue))
    if obstacle := _obstacle(given):
        showing.logger("taskfleet.worker").info("each process imports the application itself: %s", obstacle)
    else:
        worker_process.import_for_children()
    with _probes(given.processes, given.probe_host, given.probe_port) as (merged, serve):
        forks = not obstacle
        supervisor = Supervisor(command.of, given.processes, burst=given.burst, figures=merged, forks=forks)
        supervisor.on_started = serve
        return supervisor.run(parent, worker_process.patience(queue))


def _obstacle(given: WorkerOptions) -> str:
    """Why the processes are not forked; empty when they can be."""
    from taskfleet.process import forking

    if "@" in given.redis:  # a forked process has the arguments of its parent, which `ps` shows
        return "--redis has a login, which the arguments of each process would show; REDIS_URL does not"
    return forking.obstacle()


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
