"""The log of the `taskfleet` command: to stderr, one event a line, as text or JSON, at a level that can be chosen.

Only the command, the processes that it starts, and `run_forever()` in a program without a logging setup call
`configure`. Elsewhere the application configures logging, as with any library; `TaskFields`, `stamp_records`,
`add_task_fields`, `JsonLines` and `TextLines` are for its own setup (docs/how-to/logging.md).
"""

from __future__ import annotations

import logging
import os
import sys

from taskfleet.errors import ConfigurationError
from taskfleet.log_formats import JsonLines, TextLines
from taskfleet.task_fields import TaskFields, add_task_fields, stamp_records

__all__ = ["JsonLines", "TaskFields", "TextLines", "add_task_fields", "check", "configure", "stamp_records"]

VARIABLE = "TASKFLEET_LOG_LEVEL"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMAT_VARIABLE = "TASKFLEET_LOG_FORMAT"
FORMATS: dict[str, type[logging.Formatter]] = {"text": TextLines, "json": JsonLines}


def configure(option: str = "", format_option: str = "", *, default: str = "INFO") -> None:
    """Log to stderr as `--log-level` and `--log-format` say, in this process and its children.

    Without an option, TASKFLEET_LOG_LEVEL and TASKFLEET_LOG_FORMAT decide.
    Errors: `ConfigurationError` for a level or a format that does not exist.
    """
    asked = option or os.environ.get(VARIABLE, "")
    level = check(asked, "--log-level" if option else VARIABLE) if asked.strip() else default
    if option:
        os.environ[VARIABLE] = level
    asked = format_option or os.environ.get(FORMAT_VARIABLE, "")
    form = check_format(asked, "--log-format" if format_option else FORMAT_VARIABLE) if asked.strip() else "text"
    if format_option:
        os.environ[FORMAT_VARIABLE] = form
    stamp_records()
    if form == "json":
        logging.captureWarnings(True)  # a warning of Python is a line of its own kind, and no JSON
    root = logging.getLogger()
    if not root.handlers:  # else the program has set up logging, or this function was called before
        root.addHandler(_Stderr(sys.stderr))
    for handler in root.handlers:
        if isinstance(handler, _Stderr):
            handler.setFormatter(FORMATS[form]())
    root.setLevel(level)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # generic for type checkers only
    """The handler of the command, whose format a later call may change."""


def check(text: str, where: str) -> str:
    """The level of a name in upper or lower case. Errors: `ConfigurationError` lists the levels."""
    level = text.strip().upper()
    if level not in LEVELS:
        raise ConfigurationError(f"{where}: {text!r} is none of {', '.join(LEVELS)}")
    return level


def check_format(text: str, where: str) -> str:
    """The format of a name in upper or lower case. Errors: `ConfigurationError` lists the formats."""
    form = text.strip().lower()
    if form not in FORMATS:
        raise ConfigurationError(f"{where}: {text!r} is none of {', '.join(FORMATS)}")
    return form
