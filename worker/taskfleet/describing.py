"""Text and traceback of any exception.

An exception is code of the application: its `__str__`, its class and the errors that it is chained to may raise, lie,
or never end. The functions of this module never raise, and their texts are bounded and can be encoded as UTF-8.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any, Final, NamedTuple

TEXT_LIMIT = 4000  # characters of the text of an error
TRACE_LIMIT = 16_000  # characters of a traceback: its end, which shows the cause
_CHAIN_LIMIT = 30  # errors in one traceback: causes, contexts, members of groups
_FRAMES = 60  # frames of a traceback that the interpreter cannot format
_MOST_PLACES = 1000  # of which the text is kept

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
            return _clean_end(_from_known_places(error) or "".join(traceback.format_exception(error)))
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


# A worker whose tasks fail fails at few places, again and again, and most of the time that the interpreter takes for a
# traceback goes into the source lines of its frames and their marks. So the text of each place is formatted once.


class _Place(NamedTuple):
    """One place in the code that a traceback has passed, and its lines in the traceback."""

    text: str
    line: tuple[str, int, str]  # the interpreter leaves out frames that repeat the same one
    code: CodeType  # kept, so that no other code object gets its id


_PLACES: dict[
    tuple[int, int, int], _Place
] = {}  # by id of the code object (equal ones may be of other files), position

# The interpreter adds suggestions, source lines or members to the text of these.
_MORE_THAN_TEXT: Final = (SyntaxError, ImportError, NameError, AttributeError, BaseExceptionGroup)
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def _from_known_places(error: BaseException) -> str:
    """What `traceback.format_exception` makes of an error and its chain; '' where only the interpreter can tell."""
    if hasattr(sys, "tracebacklimit"):
        return ""
    parts: list[str] = []  # the last one first
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None:
        frames = _frames_of(one.__traceback__)
        if not frames or not _is_only_text(one) or id(one) in seen:
            return ""
        seen.add(id(one))
        parts.append("".join(["Traceback (most recent call last):\n", *frames, _last_line(one)]))
        if one.__cause__ is not None:
            parts.append(_CAUSE)
            one = one.__cause__
        elif one.__context__ is not None and not one.__suppress_context__:
            parts.append(_CONTEXT)
            one = one.__context__
        else:
            one = None
    return "".join(reversed(parts))


def _is_only_text(error: BaseException) -> bool:
    kind = type(error)
    return type(kind) is type and not issubclass(kind, _MORE_THAN_TEXT) and not hasattr(error, "__notes__")


def _last_line(error: BaseException) -> str:
    kind, text = type(error), str(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"{name}: {text}\n" if text else f"{name}\n"


def _frames_of(trace: TracebackType | None) -> list[str]:
    """The lines of each frame; none where one repeats the one before, as in a recursion."""
    texts: list[str] = []
    before = None
    while trace is not None:
        code = trace.tb_frame.f_code
        key = id(code), trace.tb_lasti, trace.tb_lineno
        place = _PLACES.get(key)
        if place is None:
            if len(_PLACES) >= _MOST_PLACES:
                _PLACES.clear()
            line = code.co_filename, trace.tb_lineno, code.co_name
            place = _PLACES[key] = _Place(traceback.format_tb(trace, 1)[0], line, code)
        if place.line == before:
            return []
        before = place.line
        texts.append(place.text)
        trace = trace.tb_next
    return texts
