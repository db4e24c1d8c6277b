"""Queue names: three usual ones, and the rule that every name must follow."""

from __future__ import annotations

import re

from taskfleet.checks import shown
from taskfleet.errors import InvalidQueueNameError

DEFAULT = "default"
HIGH_PRIORITY = "high_priority"
LOW_PRIORITY = "low_priority"

_VALID = re.compile(r"[A-Za-z0-9_:.\-]{1,255}")


def validate(name: str) -> str:
    """Return `name`, or raise `InvalidQueueNameError`."""
    # Callers without a type checker may pass any object.
    if not isinstance(name, str) or not _VALID.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidQueueNameError(
            f"queue name {shown(name)} is not valid: use 1 to 255 characters of letters, digits, '-', '_', ':' and '.'"
        )
    return str.__str__(name)


def check(name: str, value: str) -> str:
    """`validate` for the value of an option; errors begin with the name of the option."""
    try:
        return validate(value)
    except InvalidQueueNameError as error:
        raise InvalidQueueNameError(f"{name}: {error}") from None
