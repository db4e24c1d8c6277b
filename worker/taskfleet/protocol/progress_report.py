"""The progress of a task, as its handler reports it."""

from __future__ import annotations

import math
from typing import cast

import msgpack

from taskfleet import describing

ProgressReport = tuple[str, int, bytes]
"""Task id, delivery, and the packed report of a running task."""

NOTE_LIMIT = 1000


def pack_report(done: float, total: float | None, note: str) -> bytes:
    """A report in the form that a worker sends; a note longer than 1000 characters is cut.

    Errors: `TypeError` when `done` or `total` is no number.
    """
    for name, value in (("done", done), ("total", total)):
        if not isinstance(value, (int, float)) and not (name == "total" and value is None):
            raise TypeError(f"progress: {name}={value!r} is no number")
    said = describing.encodable(str(note)[:NOTE_LIMIT])
    try:
        return cast("bytes", msgpack.packb((done, total, said)))
    except OverflowError:
        return cast("bytes", msgpack.packb((_as_float(done), None if total is None else _as_float(total), said)))


def _as_float(number: float) -> float:
    """The float for a whole number that messagepack cannot hold."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
