"""What `taskfleet worker` does with its options. It imports neither Typer nor the other commands.

They would stay in the memory of the worker for as long as it lives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from taskfleet import logs, showing
from taskfleet.child_process import Parent
from taskfleet.cli import redirecting, worker_command
from taskfleet.cli.worker_options import WorkerOptions
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.process import figures_pipe, requests

if TYPE_CHECKING:
    from taskfleet.middleware import WorkerContext
    from taskfleet.process.merged_figures import MergedFigures
    from taskfleet.queue import TaskQueue

# Once `taskfleet dev` is killed, its Valkey is gone too: no end of a task could be recorded.
_WITHOUT_REDIS_SECONDS = 1.0


def main(options: WorkerOptions) -> int:
    """`run`, with every error of the library in one line; returns the exit code."""
    try:
        logs.configure(default="WARNING")
        return run(options)
    except TaskQueueError as error:
        from taskfleet.cli import failing

        return failing.told(error, redis=bool(options.redis))


def run(given: WorkerOptions) -> int:
    """Run a worker until SIGTERM or Ctrl-C drains it; returns the exit code. Errors: `ConfigurationError`."""
    logs.configure(given.log_level, given.log_format)
    handed, told = worker_command.passed_on()
    redis = given.redis or handed
    parent, figures = Parent(), figures_pipe.inherited()
    requests.end_at_once()  # until there is a worker to drain

    names = tuple(each.strip() for each in given.queues.split(",") if each.strip())
    if given.queues and not names:
        raise ConfigurationError(f"--queues {given.queues!r} names no queue")
    for option, is_given in (("--burst", given.burst), ("--probe-port", given.probe_port)):
        if given.reload and is_given:
            raise ConfigurationError(f"--reload is for development, and does not go with {option}: leave one out")
    # Imported when an invalid option has been refused, and a signal can end the process.
    from taskfleet.process import worker_process
    from taskfleet.process.loading import load_app
    from taskfleet.runtime.state import selection

    queue = load_app(given.application)
    known = queue.application.named_queues
    tiers = selection.tiers_of(queue.application, names)  # an invalid name is an error, before any process starts
    if given.number == 0:
        _warn_of_typing_errors(known, {each for tier in tiers for each in tier.names})
    if given.check:
        return 0
    number, probe_port = given.number, given.probe_port
    if given.reload or given.processes > 1:
        from taskfleet.process.supervisor import InForkedProcess

        worker_command.pass_on(redis)
        try:
            return _supervise(given, queue, parent)
        except InForkedProcess as this:
            worker_command.passed_on()
            number, parent, figures, probe_port, told = this.number, this.parent, this.figures, 0, ""
    with redirecting.redirected(queue, redis):
        if told:
            _tell_of_tasks(queue)
        options = worker_process.ProcessOptions(
            queues=names,
            concurrency=given.concurrency,
            number=number,
            probe_host=given.probe_host,
            probe_port=probe_port,
            burst=given.burst,
            name=given.name or None,
            figures=figures,
            orphan_seconds=_WITHOUT_REDIS_SECONDS if told == worker_command.DEV_WITH_VALKEY else None,
        )
        return worker_process.run(queue, options, parent)


def _supervise(given: WorkerOptions, queue: TaskQueue, parent: Parent) -> int:
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


def _tell_of_tasks(queue: TaskQueue) -> None:
    """A line on the terminal for what happens to tasks, in place of the log that a service has."""
    import logging

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
