"""An error of the library as one line on standard error, and the exit code that goes with it."""

from __future__ import annotations

import sys

from taskfleet import showing
from taskfleet.cli import traces
from taskfleet.errors import BrokerConnectionError, ConfigurationError, TaskQueueError

logger = showing.logger("taskfleet")

LINE_LIMIT = 2000  # characters of an error


def told(error: TaskQueueError, *, redis: bool) -> int:
    """Print the error; returns the exit code. `redis`: the command has the option `--redis`."""
    # The traceback of the application's own code.
    trace = getattr(error, "trace", "") or getattr(error, "traceback", "")
    if trace:
        print(traces.shown_trace(trace), file=sys.stderr)
    text = " ".join(str(error).split())
    if redis and isinstance(error, BrokerConnectionError):
        text = text.replace("or set REDIS_URL", "or give another --redis")
    print(f"taskfleet: {showing.shown(text, LINE_LIMIT)}", file=sys.stderr)
    if error.__cause__ is not None:
        logger.debug("caused by", exc_info=error.__cause__)
    return 2 if isinstance(error, ConfigurationError) else getattr(error, "exit_code", 1)
