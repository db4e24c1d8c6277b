"""Foreign text on a terminal, in a log or in a label: on one line, bounded, and completely visible.

Ids, names, errors and reasons come from Redis and from the exceptions of tasks. Printed unchanged, they could move the
cursor, hide the text before them, forge a line of the log, or fill a disk.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from taskfleet import describing

LINE_LIMIT = 300  # characters, like all limits in this module
MESSAGE_LIMIT = 4000
TRACEBACK_LIMIT = 65_536


def shown(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` on one line of at most about `limit` characters; a longer text ends with its length.

    Control characters, escape sequences, marks that turn the direction of writing, and halves of surrogate pairs are
    escaped as in a Python string.
    """
    size = len(text)
    if size > limit:
        text = text[:limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:limit]
    return text if size <= limit and len(text) <= limit else f"{text[:limit]}... ({size} characters)"


def lines(text: str, limit: int = TRACEBACK_LIMIT) -> str:
    """As `shown`, for a text of several lines, such as a traceback. The end of a longer text is kept."""
    if len(text) > limit:
        text = f"... ({len(text)} characters)\n{text[-limit:]}"
    return "\n".join(shown(line.replace("\t", "    "), limit) for line in text.split("\n"))


def logger(name: str) -> logging.Logger:
    """The logger of that name; its records are safe to write, whichever handlers the application has."""
    found = logging.getLogger(name)
    if _CLEAN not in found.filters:
        found.addFilter(_CLEAN)
    return found


class _CleaningFilter(logging.Filter):
    """Cleans the arguments of a record. The template stays, since log services group records by it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _clean(record.msg, MESSAGE_LIMIT)
        arguments: Any = record.args
        if isinstance(arguments, Mapping):
            record.args = {key: _clean(value) for key, value in arguments.items()}
        elif arguments:
            record.args = tuple(_clean(value) for value in arguments)
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = lines(describing.trace(record.exc_info[1]).rstrip("\n"))
        return True


def _clean(value: Any, limit: int = MESSAGE_LIMIT) -> Any:
    if isinstance(value, (int, float)) or value is None:
        return value
    if isinstance(value, BaseException):  # the text of a task's exception may raise
        return shown(describing.text_of(value), limit)
    return shown(value if isinstance(value, str) else str(value), limit)


_CLEAN = _CleaningFilter()
