"""The `taskfleet` command: every error is one line, every listing has `--json`."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys


def main() -> None:
    """Run the command; exit 0 success, 1 failure, 2 usage, 130 when Ctrl-C has ended it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal cannot show is written as Python would write it: no text is worth a traceback.
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # The kernel does not end the first process of a container by a signal that this does not handle.
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    try:
        code = _run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("taskfleet: aborted")
        code = 130
    except BrokenPipeError:
        code = 1  # what reads us has gone: nothing is left to say
    except OSError as error:
        _say(f"taskfleet: cannot write: {error.strerror or error}")
        code = 1
    _let_go()
    raise SystemExit(code)


def _run() -> int:
    try:
        from taskfleet.cli import app
    except ImportError as error:
        # Only the worker library is there: say which extra brings the command.
        _say(f"taskfleet: {error.name} is missing; install it with: pip install 'taskfleet[cli]'")
        return 2
    return app.run(sys.argv[1:])


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _let_go() -> None:
    """Python flushes once more at its end, and would tell of a pipe that is broken."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
