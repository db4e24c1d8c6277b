"""Errors in words, whatever the error is.

An exception is code of the application: its `__str__`, its class and what it is chained to may raise, lie, or go on
without end. What is made here never raises, is bounded, and can be encoded.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

TEXT_LIMIT = 4000  # characters, of what an error says
TRACE_LIMIT = 16_000  # characters, of the end of a traceback, where the cause is
_CHAIN_LIMIT = 30  # errors that one traceback tells of: causes, contexts, members of groups
_FRAMES = 60

# The descriptors of `type` itself: a metaclass may have others.
_name_of: Any = type.__dict__["__name__"].__get__


def describe(error: BaseException) -> str:
    """`ValueError: what it says`, at most `TEXT_LIMIT` characters of it."""
    return f"{name_of(type(error))}: {text_of(error)}"


def name_of(kind: type) -> str:
    """The name of a class."""
    try:
        return _clean(_name_of(kind), 200)
    except BaseException:
        return "?"


def text_of(error: BaseException) -> str:
    """What an error says of itself, or that it does not say it."""
    try:
        return _clean(str(error), TEXT_LIMIT)
    except BaseException as problem:
        # BaseException: an error whose text calls sys.exit() is no reason to end.
        return f"(it has no text: its __str__ raised {name_of(type(problem))})"


def trace(error: BaseException) -> str:
    """The traceback of an error, with what it was chained to; its last `TRACE_LIMIT` characters."""
    try:
        if _is_ordinary(error):
            return _clean_end("".join(traceback.format_exception(error)))
        frames = traceback.format_tb(error.__traceback__, -_FRAMES)
        text = "".join(["Traceback (most recent call last):\n", *frames, describe(error), "\n"])
        return _clean_end(text + "(what it is chained to, or holds, is too much to tell)\n")
    except BaseException as problem:
        return f"{describe(error)}\n(its traceback cannot be told: {name_of(type(problem))})\n"


def _is_ordinary(error: BaseException) -> bool:
    """Whether the interpreter's own formatter can be left alone with it."""
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
    # By the methods of `str` itself: a subclass may have others.
    cut = str.__getitem__(text, slice(limit))
    return cut if cut.isascii() else encodable(cut)


def _clean_end(text: str) -> str:
    cut = text[-TRACE_LIMIT:]
    return cut if cut.isascii() else encodable(cut)


def encodable(text: str) -> str:
    """A text that UTF-8 has a place for: half a surrogate pair is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
