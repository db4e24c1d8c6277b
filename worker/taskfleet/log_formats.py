"""The two forms of a line of the log: text for people, JSON for programs. Foreign text is safe in both."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
from collections.abc import Callable
from typing import Any

from taskfleet import describing, showing, task_fields

_FIELD_LIMIT = 255  # characters of a name or an id
_MOST_EXTRAS = 50
_WHOLE = range(-(2**63), 2**64)  # what programs that read JSON hold; a longer number is a text
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", task_fields.ATTRIBUTE}
_TEXT_NAMES = ("task", "task_id", "queue", "attempt", "worker", "trace_id")


class TextLines(logging.Formatter):
    """One line for a record, and the lines of its traceback: time, level, logger, message, and the task in brackets.

    Records of all libraries pass here, so all text is cleaned.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _told(record, self._line)

    def _line(self, record: logging.LogRecord) -> str:
        _with_a_message(record)
        if record.exc_text and not record.exc_text.replace("\n", "").isprintable():  # of another handler's formatter
            record.exc_text = showing.lines(record.exc_text)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = showing.shown(record.message, 2 * showing.MESSAGE_LIMIT)
        line = super().formatMessage(record)
        # The lines of the worker about a task name it in their words.
        fields = {} if record.name.startswith("taskfleet.") else task_fields.of_record(record)
        named = [f"{name}={_field(fields[name])}" for name in _TEXT_NAMES if name in fields]
        return f"{line} [{' '.join(named)}]" if named else line

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return showing.lines(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return showing.lines(stack_info)


class JsonLines(logging.Formatter):
    """One JSON object for a record, in ASCII: time (ISO 8601, UTC), level, logger, message, the fields of the task.

    Also `traceback` and `stack`, and what the caller gave as `extra`, at most 50 of them.
    """

    def format(self, record: logging.LogRecord) -> str:
        return _told(record, self._line)

    def _line(self, record: logging.LogRecord) -> str:
        _with_a_message(record)
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": showing.shown(record.name),
            "message": showing.shown(record.getMessage(), 2 * showing.MESSAGE_LIMIT),
        }
        line |= {str(name): _field(value) for name, value in task_fields.of_record(record).items()}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = showing.lines(record.exc_text)
        if record.stack_info:
            line["stack"] = showing.lines(record.stack_info)
        for name, value in _extras(record):
            line.setdefault(name if name not in line else f"extra.{name}", value)
        return json.dumps(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return showing.lines(super().formatException(ei))


def _told(record: logging.LogRecord, line: Callable[[logging.LogRecord], str]) -> str:
    """The line of a record, or that it has none, for which `logging` would print many lines of its own."""
    try:
        return line(record)
    except Exception as error:  # such as of a record of the year 10000
        problem = f"a record cannot be told: {describing.describe(error)}: {_plain(record.msg)}"
        return line(logging.makeLogRecord({"levelname": "ERROR", "name": __name__, "msg": problem}))


def _with_a_message(record: logging.LogRecord) -> None:
    """A record whose arguments do not fit its message says so; `logging` would print a traceback of many lines."""
    try:
        record.getMessage()
    except BaseException as error:  # as in `describing`: also the SystemExit of a text
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        record.msg = f"{template} (its arguments cannot be put into it: {describing.describe(error)})"
        record.args = ()


def _field(value: object) -> Any:
    return _plain(value, _FIELD_LIMIT)


def _extras(record: logging.LogRecord) -> list[tuple[str, Any]]:
    named = [(str(name), value) for name, value in vars(record).items()]  # `extra` may have any keys
    found = [(name, value) for name, value in named if name not in _STANDARD and name[:1] != "_"]
    return [(showing.shown(name, _FIELD_LIMIT), _plain(value)) for name, value in found[:_MOST_EXTRAS]]


def _plain(value: Any, limit: int = showing.MESSAGE_LIMIT) -> Any:
    kind = type(value)
    if value is None or kind is bool or (kind is int and value in _WHOLE) or (kind is float and math.isfinite(value)):
        return value
    try:
        return showing.shown(str.__str__(value) if isinstance(value, str) else str(value), limit)
    except BaseException as error:  # as above
        return f"it cannot be shown: {describing.describe(error)}"
