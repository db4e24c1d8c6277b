"""Text and traceback of any exception.

An exception is code of the application: its `__str__`, its class and the errors that it is chained to may raise, lie,
or never end. The functions of this module never raise, and their texts are bounded and can be encoded as UTF-8.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

TEXT_LIMIT = 4000  # characters of the text of an error
TRACE_LIMIT = 16_000  # characters of a traceback: its end, which shows the cause
_CHAIN_LIMIT = 30  # errors in one traceback: causes, contexts, members of groups
_FRAMES = 60  # frames of a traceback that the interpreter cannot format

# The descriptor of `type` itself: a metaclass may override it.
_name_of: Any = type.__dict__["__name__"].__get__


def describe(error: BaseException) -> str:
    """`ValueError: its text`, with at most `TEXT_LIMIT` characters of the text."""
    return f"{name_of(type(error))}: {text_of(error)}"


def name_of(kind: type) -> str:
    """The name of a class."""
    try:
        return _clean(_name_of(kind), 200)
    except BaseException:
        return "?"


def text_of(error: BaseException) -> str:
    """The text of an error, or a note that it has none."""
    try:
        return _clean(str(error), TEXT_LIMIT)
    except BaseException as problem:
        # BaseException: an error whose `__str__` calls sys.exit() must not end the process.
        return f"(it has no text: its __str__ raised {name_of(type(problem))})"


def trace(error: BaseException) -> str:
    """The traceback of an error and of the errors that it is chained to; its last `TRACE_LIMIT` characters."""
    try:
        if _is_ordinary(error):
            return _clean_end("".join(traceback.format_exception(error)))
        frames = traceback.format_tb(error.__traceback__, -_FRAMES)
        text = "".join(["Traceback (most recent call last):\n", *frames, describe(error), "\n"])
        return _clean_end(text + "(its causes, contexts or members are too many to show)\n")
    except BaseException as problem:
        return f"{describe(error)}\n(its traceback cannot be told: {name_of(type(problem))})\n"


def _is_ordinary(error: BaseException) -> bool:
    """Whether the formatter of the interpreter is safe for it: a short chain of errors with short texts."""
    seen = 0
    known: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        seen += 1
        if seen > _CHAIN_LIMIT or len(str(one)) > TEXT_LIMIT:
            return False
        for other in _linked(one):
            waiting.append(other)
            if len(waiting) > _CHAIN_LIMIT:
                return False
    return True


def _linked(error: BaseException) -> Iterator[BaseException]:
    if error.__cause__ is not None:
        yield error.__cause__
    if error.__context__ is not None:
        yield error.__context__
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions


def _clean(text: str, limit: int) -> str:
    # The method of `str` itself: a subclass may override it.
    cut = str.__getitem__(text, slice(limit))
    return cut if cut.isascii() else encodable(cut)


def _clean_end(text: str) -> str:
    cut = text[-TRACE_LIMIT:]
    return cut if cut.isascii() else encodable(cut)


def encodable(text: str) -> str:
    """The text in a form that UTF-8 can encode: half a surrogate pair is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
