"""What is read from Redis, decoded: others may have written it, by mistake or on purpose.

Nothing here raises for what it is given but `ForeignError`, which means "skip this record". What is skipped is counted
and said (`Skipped`), so that nothing goes missing in silence. How such text is shown is in `showing`.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter

from taskfleet import showing

logger = showing.logger("taskfleet.foreign")

NAME_LIMIT = 255  # characters of a queue's, worker's or schedule's name
MESSAGE_LIMIT = 65_536  # bytes of what is published: ours are a verb and an id
LARGEST = 2**53 - 1  # beyond it neither Lua nor JSON counts by one
LAST_MS = 253_402_300_799_000  # the end of the year 9999, the last that `datetime` knows

_IDENTIFIER = re.compile(r"[A-Za-z0-9_:.\-]{1,255}")
_PLACE = re.compile(rf"{_IDENTIFIER.pattern}(/[1-9][0-9]{{0,5}})?")


class ForeignError(ValueError):
    """A record is none of ours; the message says why."""


def text(raw: object) -> str:
    """All of a text, whatever its bytes: those that are no UTF-8 are written as `\\xff`."""
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "backslashreplace")
    return raw if isinstance(raw, str) else str(raw)


def name(raw: object, what: str = "name") -> str:
    """A name of at most 255 characters, of whatever kind. Errors: `ForeignError`."""
    found = text(raw)
    if not 0 < len(found) <= NAME_LIMIT:
        raise ForeignError(f"a {what} of {len(found)} characters")
    return found


def identifier(raw: object) -> str:
    """The name of a schedule. Errors: `ForeignError`: nobody of us could have given it."""
    found = text(raw)
    if not _IDENTIFIER.fullmatch(found):
        raise ForeignError("no valid name of a schedule")
    return found


def place(raw: object) -> str:
    """The name of a queue, or of one partition of it. Errors: `ForeignError`: no producer could have made it."""
    found = text(raw)
    if not _PLACE.fullmatch(found):
        raise ForeignError("no valid name of a queue")
    return found


def figure(raw: object, what: str = "figure", *, most: float = LARGEST) -> float:
    """A number from 0 to `most`, of a reply, a field or a score. Errors: `ForeignError`."""
    try:
        value = float(raw if isinstance(raw, (int, float)) else text(raw))
    except (ValueError, OverflowError):
        value = math.nan
    if not 0 <= value <= most:
        raise ForeignError(f"{what} is {showing.shown(text(raw), 40)!r}, no number from 0 to {most:g}")
    return value


def whole(raw: object, what: str = "figure", *, most: float = LARGEST) -> int:
    """As `figure`, without a fraction."""
    return int(figure(raw, what, most=most))


class Skipped:
    """How many records were left out, by kind. The first of a kind is said, then the tenth, the hundredth, …"""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, raw: object, why: object) -> None:
        """`kind` is what it stood in place of: "queue name", "heartbeat"."""
        self.counts[kind] += 1
        count = self.counts[kind]
        level = logging.WARNING if count == 10 ** (len(str(count)) - 1) else logging.DEBUG
        logger.log(level, "left out what is no %s of ours: %s: %s (%d so far)", kind, text(raw), why, count)
