"""JSON of any depth. The API server stores what is nested 10,000 levels deep; Python gives up before that.

The parser does at some depth, and before that a function that walks through the value. One such TaskQueue must not hide
the others, which come in the same list.
"""

from __future__ import annotations

import json
import re
from typing import Any

_LEVELS = 200  # more than any field that the operator reads has; a function that calls itself gives up at about 330
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def loads(data: bytes) -> Any:
    """The parsed value. In a text that is nested too deeply, null stands for what is deeper than 200 levels."""
    try:
        parsed = json.loads(data)
    except RecursionError:
        return json.loads(_cut(data))
    may_be_deep = data.count(b"{") + data.count(b"[") > _LEVELS  # that of many objects may be, too
    return json.loads(_cut(data)) if may_be_deep and _is_deep(parsed) else parsed


def _is_deep(parsed: Any) -> bool:
    level = [parsed]
    for _ in range(_LEVELS):
        level = [
            one
            for several in level
            for one in (several.values() if isinstance(several, dict) else several)
            if isinstance(one, (dict, list))
        ]
        if not level:
            return False
    return True


def _cut(data: bytes) -> bytes:
    kept: list[bytes] = []
    depth = begin = 0
    for token in _TOKEN.finditer(data):
        if token[0] in b"{[":
            depth += 1
            if depth == _LEVELS + 1:
                kept += (data[begin : token.start()], b"null")
        elif token[0] in b"}]":
            depth -= 1
            if depth == _LEVELS:
                begin = token.end()
    kept.append(data[begin:])
    return b"".join(kept)
