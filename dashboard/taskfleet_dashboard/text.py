"""What a task holds, as text: JSON for values, one line for errors, and never anything that a page could run."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import to_jsonable_python

from taskfleet import showing

MOST_CHARACTERS = 262_144
_MOST_TRACEBACK = 65_536
_MOST_NAME = 1000


def json_text(value: Any) -> str:
    """The value as JSON text of at most `MOST_CHARACTERS`. What JSON does not have is a text, and whole numbers stay
    exact.
    """
    try:
        plain = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings", fallback=repr)
        text = json.dumps(_without_nan(plain), indent=2, ensure_ascii=False)
    except Exception:  # of a value that a plain form may hold, such as one that contains itself
        text = json.dumps(repr(value), ensure_ascii=False)
    text = whole(text)
    if len(text) > MOST_CHARACTERS:
        return f"{text[:MOST_CHARACTERS]}\n… ({len(text)} characters)"
    return text


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return value


def whole(text: str) -> str:
    """The text without halves of surrogate pairs, which no answer can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def name(text: str | None) -> str | None:
    """A name or an id, unchanged but for its length."""
    return None if text is None else whole(text[:_MOST_NAME])


def line(text: str) -> str:
    """On one line, bounded, with everything visible."""
    return whole(showing.shown(text, 1000))


def line_or_none(text: str | None) -> str | None:
    """As `line`."""
    return None if text is None else line(text)


def lines(text: str) -> str:
    """As `line`, for a traceback."""
    return whole(showing.lines(text, _MOST_TRACEBACK))
