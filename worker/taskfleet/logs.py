"""What a process of ours writes to its log, and how much: to stderr, one event a line.

Only for programs that are ours: the `taskfleet` command, the processes that it starts, and `run_forever()` of a program
that has set up no logging. A library leaves that to its application.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from taskfleet import showing
from taskfleet.errors import ConfigurationError

VARIABLE = "TASKFLEET_LOG_LEVEL"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def configure(option: str = "", *, default: str = "INFO") -> None:
    """Log to stderr at the level of `--log-level`, else of TASKFLEET_LOG_LEVEL, for this process and those it starts.

    Errors: `ConfigurationError` for a level that does not exist.
    """
    asked = option or os.environ.get(VARIABLE, "")
    level = check(asked, "--log-level" if option else VARIABLE) if asked.strip() else default
    if option:
        os.environ[VARIABLE] = level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler])  # nothing, where the program has set up its own
    logging.getLogger().setLevel(level)


def check(text: str, where: str) -> str:
    """The level of that name, in any case. Errors: `ConfigurationError` lists those that there are."""
    level = text.strip().upper()
    if level not in LEVELS:
        raise ConfigurationError(f"{where}: {text!r} is none of {', '.join(LEVELS)}")
    return level


class _Lines(logging.Formatter):
    """Also what other libraries log comes out on one line each, and tracebacks without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = showing.shown(record.message, 2 * showing.MESSAGE_LIMIT)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return showing.lines(super().formatException(ei))
