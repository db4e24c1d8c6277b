"""Decoding of values that are read from Redis: other programs may have written them, by mistake or on purpose.

The only error for a bad value is `ForeignError`, which means "skip this record". Skipped records are counted and logged
(`Skipped`), so that none is lost in silence. `showing` makes such text safe to print.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter

from taskfleet import showing

logger = showing.logger("taskfleet.foreign")

NAME_LIMIT = 255  # characters of a queue's, worker's or schedule's name
MESSAGE_LIMIT = 65_536  # bytes of a published message; Taskfleet publishes a verb and an id
LARGEST = 2**53 - 1  # the numbers of Lua and JSON skip whole numbers beyond it
LAST_MS = 253_402_300_799_000  # the end of the year 9999, the last year of `datetime`

_IDENTIFIER = re.compile(r"[A-Za-z0-9_:.\-]{1,255}")
_PARTITION = re.compile(rf"{_IDENTIFIER.pattern}(/[1-9][0-9]{{0,5}})?")


class ForeignError(ValueError):
    """No version of Taskfleet wrote this record; the message says why."""


def text(raw: object) -> str:
    """The whole text; bytes that are not UTF-8 become `\\xff`."""
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "backslashreplace")
    return raw if isinstance(raw, str) else str(raw)


def name(raw: object, kind: str = "name") -> str:
    """A name of 1 to 255 characters, of any kind. Errors: `ForeignError`."""
    found = text(raw)
    if not 0 < len(found) <= NAME_LIMIT:
        raise ForeignError(f"a {kind} of {len(found)} characters")
    return found


def identifier(raw: object) -> str:
    """The name of a schedule. Errors: `ForeignError` for one that `add_schedule` would refuse."""
    found = text(raw)
    if not _IDENTIFIER.fullmatch(found):
        raise ForeignError("no valid name of a schedule")
    return found


def partition(raw: object) -> str:
    """The name of a queue, or of one partition of it. Errors: `ForeignError` for one that no producer can make."""
    found = text(raw)
    if not _PARTITION.fullmatch(found):
        raise ForeignError("no valid name of a queue")
    return found


def figure(raw: object, kind: str = "figure", *, most: float = LARGEST) -> float:
    """A number from 0 to `most`, of a reply, a field or a score. Errors: `ForeignError`."""
    try:
        value = float(raw if isinstance(raw, (int, float)) else text(raw))
    except (ValueError, OverflowError):
        value = math.nan
    if not 0 <= value <= most:
        raise ForeignError(f"{kind} is {showing.shown(text(raw), 40)!r}, no number from 0 to {most:g}")
    return value


def whole(raw: object, kind: str = "figure", *, most: float = LARGEST) -> int:
    """As `figure`, rounded down to a whole number."""
    return int(figure(raw, kind, most=most))


class Skipped:
    """Counts skipped records by kind. The first of a kind is logged as a warning, then the tenth, the hundredth, …"""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, raw: object, why: object) -> None:
        """Count one record. `kind` is the kind that it should have been: "queue name", "heartbeat"."""
        self.counts[kind] += 1
        count = self.counts[kind]
        level = logging.WARNING if count == 10 ** (len(str(count)) - 1) else logging.DEBUG
        logger.log(level, "skipped a %s that Taskfleet did not write: %s: %s (%d so far)", kind, text(raw), why, count)
