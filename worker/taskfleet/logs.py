"""The log of the `taskfleet` command: to stderr, one event a line, as text or JSON, at a level that can be chosen.

Only the command, the processes that it starts, and `run_forever()` in a program without a logging setup call
`configure`. Elsewhere the application configures logging, as with any library; `TaskFields`, `stamp_records`,
`add_task_fields`, `JsonLines` and `TextLines` are for its own setup (docs/how-to/logging.md).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType

from taskfleet import showing
from taskfleet.errors import ConfigurationError
from taskfleet.log_formats import JsonLines, TextLines
from taskfleet.task_fields import TaskFields, add_task_fields, stamp_records

__all__ = ["JsonLines", "TaskFields", "TextLines", "add_task_fields", "check", "configure", "stamp_records"]

logger = showing.logger("taskfleet.uncaught")

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
        # What Python writes by itself has lines of its own kind, and no JSON.
        logging.captureWarnings(True)
        _log_what_nobody_catches()
    root = logging.getLogger()
    if not root.handlers:  # else the program has set up logging, or this function was called before
        root.addHandler(_Stderr(sys.stderr))
    for handler in root.handlers:
        if isinstance(handler, _Stderr):
            handler.setFormatter(FORMATS[form]())
    root.setLevel(level)


def _log_what_nobody_catches() -> None:
    """Errors of threads, of finalizers and of the main program, unless the application has hooks for them."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _of_the_program
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _of_a_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _of_a_finalizer


def _of_the_program(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logger.critical("the program ends with an error that nobody has caught", exc_info=(kind, error, trace))


def _of_a_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_type is SystemExit:
        return
    name = about.thread.name if about.thread is not None else "?"
    error = about.exc_value or about.exc_type()
    logger.error("thread %s ended with an error", name, exc_info=(about.exc_type, error, about.exc_traceback))


def _of_a_finalizer(about: sys.UnraisableHookArgs) -> None:
    error = about.exc_value or about.exc_type()
    what = about.err_msg or f"an error in {type(about.object).__name__} was ignored"
    logger.error("%s", what, exc_info=(about.exc_type, error, about.exc_traceback))


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
