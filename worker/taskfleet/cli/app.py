"""The frame of the command: its subcommands, those of other packages, and errors in one line."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, cast

import typer

from taskfleet import logs, showing
from taskfleet.cli import (
    completion,
    configuration,
    connecting,
    dead,
    dev,
    doctor,
    failing,
    queues,
    schedules,
    sending,
    similar,
    tasks,
    worker,
    workers,
)
from taskfleet.cli.top import command as top
from taskfleet.errors import TaskQueueError
from taskfleet.version import __version__

logger = showing.logger("taskfleet")

_GROUP = "taskfleet.commands"
# Typer may vendor click, whose classes then have no public name; they are ancestors of a class that has one.
_UsageError, _ClickException = typer.BadParameter.__mro__[1:3]


def _version(value: bool) -> None:
    if value:
        print(f"taskfleet {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """All commands: those of the library, and those that installed packages register as entry points."""
    app = typer.Typer(
        name="taskfleet",
        help="A Redis-backed task queue for asyncio Python, and its Kubernetes operator.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def options(  # pyright: ignore[reportUnusedFunction]
        context: typer.Context,
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
        redis: str = typer.Option("", "--redis", metavar="URL", help="As --redis of the command."),
    ) -> None:
        if redis:
            connecting.check_use(context)

    for part in (dev, worker, sending, tasks, queues, workers, top, dead, schedules, doctor, configuration, completion):
        part.register(app)
    for point in metadata.entry_points(group=_GROUP):
        try:
            register = point.load()
        except ImportError as error:
            logger.warning("the commands of %s are not there: %s", point.value, error)
            continue
        register(app)
    return app


def run(arguments: list[str], build: Callable[[], typer.Typer] = build, name: str = "taskfleet") -> int:
    """Run one command line; returns the exit code."""
    try:
        logs.configure(default="WARNING")
        completion.prepare()
        result = build()(arguments, prog_name=name, standalone_mode=False)
    except TaskQueueError as error:
        return failing.told(error, redis=any(each.split("=")[0] == "--redis" for each in arguments))
    except typer.Abort as aborted:
        # Typer turns Ctrl-C into Abort; any other Abort is the answer "no" to a question.
        if isinstance(aborted.__cause__ or aborted.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        print("taskfleet: aborted", file=sys.stderr)
        return 1
    except Exception as error:
        if not isinstance(error, _ClickException):
            raise
        message = _plain(cast("Any", error).format_message())
        # A command group without arguments answers with its help, which is several lines.
        end = "" if message.endswith((".", "?")) else "."
        line = f"taskfleet: {showing.shown(message, failing.LINE_LIMIT)}{end} Try --help."
        print(message if type(error).__name__ == "NoArgsIsHelpError" else line, file=sys.stderr)
        return 2 if isinstance(error, _UsageError) else 1
    if result == 130:
        raise KeyboardInterrupt  # Typer caught it and returned the exit code
    return result if isinstance(result, int) else 0


def _plain(message: str) -> str:
    """The similar names of Typer, in the words of the other errors."""
    found = re.fullmatch(r"(No such option: (\S+)) \(Possible options: ([^)]*)\)", message)
    if found is not None:
        near = difflib.get_close_matches(found[2], found[3].split(", "), 1, 0.0)
        return f"{found[1]}. Did you mean {near[0]!r}?" if near else found[1]
    choices = re.fullmatch(r"(.*: )(?:Value error, )?('([^']*)' is not one of ('.*'))\.", message)
    if choices is not None:
        known = re.findall("'([^']*)'", choices[4])
        return f"{choices[1]}{choices[2]}{similar.hint(choices[3], known)}."
    return re.sub(r"\. Did you mean '([^']*)'[^?]*\?$", r". Did you mean '\1'?", message)
