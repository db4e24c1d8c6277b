"""The log of the `taskfleet` command: to stderr, one event a line, at a level that can be chosen.

Only the command, the processes that it starts, and `run_forever()` in a program without a logging setup call this
module. Elsewhere the application configures logging, as with any library.
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
    """Log to stderr at the level of `--log-level`, or else of TASKFLEET_LOG_LEVEL, in this process and its children.

    Errors: `ConfigurationError` for a level that does not exist.
    """
    asked = option or os.environ.get(VARIABLE, "")
    level = check(asked, "--log-level" if option else VARIABLE) if asked.strip() else default
    if option:
        os.environ[VARIABLE] = level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler])  # has no effect in a program that has set up logging
    logging.getLogger().setLevel(level)


def check(text: str, where: str) -> str:
    """The level of a name in upper or lower case. Errors: `ConfigurationError` lists the levels."""
    level = text.strip().upper()
    if level not in LEVELS:
        raise ConfigurationError(f"{where}: {text!r} is none of {', '.join(LEVELS)}")
    return level


class _OneLineFormatter(logging.Formatter):
    """Writes records of all libraries on one line each, and tracebacks without control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = showing.shown(record.message, 2 * showing.MESSAGE_LIMIT)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return showing.lines(super().formatException(ei))
