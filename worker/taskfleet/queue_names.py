"""The names of queues: three usual ones, and the rule for all."""

from __future__ import annotations

import re

from taskfleet.errors import InvalidQueueNameError

DEFAULT = "default"
HIGH_PRIORITY = "high_priority"
LOW_PRIORITY = "low_priority"

_VALID = re.compile(r"[A-Za-z0-9_:.\-]{1,255}")


def validate(name: str) -> str:
    """Return `name`, or raise `InvalidQueueNameError`."""
    if not _VALID.fullmatch(name):
        raise InvalidQueueNameError(
            f"queue name {name!r} is not valid: use 1 to 255 characters of letters, digits, '-', '_', ':' and '.'"
        )
    return name
