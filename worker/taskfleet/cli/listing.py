"""The one printer of listings: a table that fits the screen, or `{"items": […]}`.

On a terminal the heads are bold. Into a pipe go plain lines of at most 80 columns, or of `COLUMNS`. Ids are always
whole, and names as long as there is something else to cut. A cell that is cut ends with a sign.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from taskfleet.showing import shown

T = TypeVar("T")

_GAP = "  "
_LEAST = 8  # columns that a cell keeps when it is cut
_SHORTEST = 5  # that it keeps before a name is cut
_CELL_LIMIT = 4000  # characters


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: its head, and the cell of an item.

    Only a `cut` column may lose characters, and a column of a `name` when those are as short as can be.
    """

    head: str
    cell: Callable[[T], object]
    right: bool = False
    cut: bool = False
    name: bool = False


def show(
    items: Sequence[T],
    columns: Sequence[Column[T]],
    record: Callable[[T], Mapping[str, Any]],
    *,
    as_json: bool,
    none: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Print the items. `none` goes to stderr in place of an empty table; `more` are further keys of the JSON object."""
    if as_json:
        print(as_text({"items": [record(item) for item in items], **(more or {})}))
    elif items:
        table(columns, items)
    else:
        print(none, file=sys.stderr)


def table(columns: Sequence[Column[T]], items: Sequence[T]) -> None:
    """Print a table of plain text, with bold heads on a terminal."""
    cells = [[shown(str(column.cell(item)), _CELL_LIMIT) for column in columns] for item in items]
    rows = [[column.head for column in columns], *cells]
    widths = _fitted([max(map(width, column)) for column in zip(*rows, strict=True)], columns)
    lines = [
        _GAP.join(
            _cell(text, wide, column.right, is_last=number == len(columns) - 1)
            for number, (text, wide, column) in enumerate(zip(row, widths, columns, strict=True))
        ).rstrip()
        for row in rows
    ]
    # Without rich, which only makes the head bold, it is the table of a pipe.
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        print("\n".join(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(lines[0], style="bold"))
    console.print(Text("\n".join(lines[1:])))


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Print one record: a line for each field that has a value."""
    told = [(name, shown(str(value), _CELL_LIMIT)) for name, value in pairs if value not in (None, "", ())]
    wide = max(len(name) for name, _ in told)
    for name, value in told:
        print(f"{name.ljust(wide)}{_GAP}{value}")


def as_text(value: object) -> str:
    """One line of JSON: times in ISO 8601, bytes in base64. JSON has no NaN and no infinity; they become text."""
    from pydantic_core import to_jsonable_python

    return json.dumps(_finite(to_jsonable_python(value, bytes_mode="base64", serialize_unknown=True)), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def moment(time: datetime | None) -> str:
    """A time in a table: in UTC, to the second."""
    return f"{time.astimezone(UTC):%F %T}" if time is not None else "-"


def age(seconds: float | None) -> str:
    """A duration in a table: `0.4s`, `42s`, `5m10s`, `3h20m`, `12d4h`."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for size, unit, smaller, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}{int(seconds % size // smaller)}{below}"
    return f"{seconds:.0f}s"


def width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _fitted(widths: list[int], columns: Sequence[Column[T]]) -> list[int]:
    """The widths on this screen: the widest cells that may be cut are, until the table fits."""
    room = shutil.get_terminal_size((80, 24)).columns - len(_GAP) * (len(columns) - 1)
    while (excess := sum(widths) - room) > 0:
        able, least = _able(widths, columns)
        if not able:
            break
        widest = max(able, key=lambda n: widths[n])
        next_widest = max((widths[n] for n in able if widths[n] < widths[widest]), default=0)
        step = max(1, min(excess, widths[widest] - next_widest))
        widths[widest] = max(least, len(columns[widest].head), widths[widest] - step)
    return widths


def _able(widths: list[int], columns: Sequence[Column[T]]) -> tuple[list[int], int]:
    """(the columns to cut next, how many columns they keep): first what may be cut, then more of it, then names."""
    for least, names in ((_LEAST, False), (_SHORTEST, False), (_LEAST, True)):
        able = [
            n
            for n, each in enumerate(columns)
            if (each.name if names else each.cut) and widths[n] > max(least, len(each.head))
        ]
        if able:
            return able, least
    return [], 0


def _cell(text: str, wide: int, right: bool, *, is_last: bool) -> str:
    if width(text) > wide:
        sign = _sign()
        while text and width(text) + len(sign) > wide:
            text = text[:-1]
        text += sign
    if is_last and not right:
        return text
    space = " " * (wide - width(text))
    return space + text if right else text + space


def _sign() -> str:
    try:
        "…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "..."
    return "…"
