"""How text that others have written is shown, on a terminal, in a log, in a label: one line, bounded, nothing hidden.

Ids, names, errors and reasons come out of Redis, and from what tasks raise. Printed as they are they could move the
cursor, hide what stands before them, forge a line of the log, or fill a disk.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from taskfleet import describing

LINE_LIMIT = 300
MESSAGE_LIMIT = 4000
TRACEBACK_LIMIT = 65_536


def shown(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` on one line of at most about `limit` characters; a longer one says how long it is.

    Control characters, escape sequences, what turns the direction of writing, and halves of surrogate pairs are written
    as Python would write them in a string.
    """
    size = len(text)
    if size > limit:
        text = text[:limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:limit]
    return text if size <= limit and len(text) <= limit else f"{text[:limit]}... ({size} characters)"


def lines(text: str, limit: int = TRACEBACK_LIMIT) -> str:
    """As `shown`, for a text of several lines, such as a traceback. Of a longer one the end is kept."""
    if len(text) > limit:
        text = f"... ({len(text)} characters)\n{text[-limit:]}"
    return "\n".join(shown(line.replace("\t", "    "), limit) for line in text.split("\n"))


def logger(name: str) -> logging.Logger:
    """The logger of that name, whose records are safe to write wherever the application sends them."""
    found = logging.getLogger(name)
    if _CLEAN not in found.filters:
        found.addFilter(_CLEAN)
    return found


class _Clean(logging.Filter):
    """Cleans what a record was given. Its template stays, by which services that gather logs tell them apart."""

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
    if isinstance(value, BaseException):  # what a task raises may not even have a text
        return shown(describing.text_of(value), limit)
    return shown(value if isinstance(value, str) else str(value), limit)


_CLEAN = _Clean()
