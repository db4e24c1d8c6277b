"""Regular expressions with one meaning for the API server (RE2, in CEL and in the schema) and for Python.

Every pattern is anchored as a whole, `^…$`. Classes are written out, because those behind a backslash differ.
"""

from __future__ import annotations

import re


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` fits. Python's own `$` also allows a line break at the end; RE2's does not."""
    return re.fullmatch(f"(?:{pattern[1:-1]})", text) is not None


def quoted(pattern: str) -> str:
    """The pattern as a string of CEL."""
    escaped = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
