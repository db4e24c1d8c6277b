"""The `taskfleet` command: every error is one line, every listing has `--json`."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskfleet.cli.worker_options import WorkerOptions


def main(run: Callable[[list[str]], int] | None = None, *, extra: str = "") -> None:
    """Run the command. Exit codes: 0 success, 1 failure, 2 usage, 130 after Ctrl-C.

    `run` runs another one in the same frame; `extra` brings all that it needs.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal cannot show are escaped, since no text should cause a traceback.
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Process 1 of a container ignores signals without a handler: SIGTERM would not end the command there.
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    try:
        code = _run(run, extra)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("taskfleet: aborted")
        code = 130
    except BrokenPipeError:
        code = 1  # the reader of the output is gone
    except OSError as error:
        _say(f"taskfleet: cannot write: {error.strerror or error}")
        code = 1
    _flush()
    raise SystemExit(code)


def _run(run: Callable[[list[str]], int] | None, extra: str) -> int:
    from taskfleet.cli import extras

    try:
        if run is None and (options := _worker_options()) is not None:
            from taskfleet.cli import worker_run

            return worker_run.main(options)
        from taskfleet.cli import app

        return (run or app.run)(sys.argv[1:])
    except ImportError as error:
        line = extras.missing(error, extra)
        if line is None:
            raise
        _say(f"taskfleet: {line}")
        return 2


def _worker_options() -> WorkerOptions | None:
    """The options, if the command is a plain `taskfleet worker`, which has no use for Typer."""
    if sys.argv[1:2] != ["worker"] or "_TASKFLEET_COMPLETE" in os.environ:
        return None
    from taskfleet.cli import worker_options

    return worker_options.read(sys.argv[2:])


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _flush() -> None:
    """Flush, and point a broken stream at /dev/null: Python flushes at exit, and would report the broken pipe."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
