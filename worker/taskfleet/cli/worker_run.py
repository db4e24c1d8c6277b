"""What `taskfleet worker` does with its options. It imports neither Typer nor the other commands.

They would stay in the memory of the worker for as long as it lives.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskfleet import logs, showing
from taskfleet.cli import redirecting, worker_command
from taskfleet.cli.worker_options import WorkerOptions
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.parent_process import Parent
from taskfleet.process import inherited_pipe, requests

if TYPE_CHECKING:
    from taskfleet.middleware import WorkerContext
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
    parent, figures = Parent(), inherited_pipe.inherited()
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
        from taskfleet.cli import worker_supervising  # only here: most workers are one process
        from taskfleet.process.supervisor import InForkedProcess

        worker_command.pass_on(redis)
        try:
            return worker_supervising.supervise(given, queue, parent)
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
