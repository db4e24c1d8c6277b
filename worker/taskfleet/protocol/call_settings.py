"""The settings of a single call: the map in a task's envelope, and the names of its keys.

A key that a reader does not know comes from a newer version, and is left alone.
"""

from __future__ import annotations

from typing import Any, Final

from taskfleet.errors import SerializationError

MAX_RETRIES: Final = "r"
TIMEOUT: Final = "t"  # seconds
EXPIRES_AT: Final = "x"  # Unix seconds by the clock of Redis
RESULT_TTL: Final = "k"  # seconds
MAX_AGE: Final = "a"  # seconds
RETRY_POLICY: Final = "b"
RESULT_IS_TAKEN: Final = "n"  # 1 when another task takes its result
INPUT_SHAPE: Final = "i"  # how the results that the task takes are nested
INPUT_SOURCES: Final = "s"  # where results are sealed: (queue, id) of each task whose result this one takes
HEADERS: Final = "h"
PARENT: Final = "p"  # the task whose code has sent this one; for readers only
_RESERVED: Final = "c"

_MOST_SECONDS = 1e10  # longer than 300 years: the most that timers and the expiry of Redis keys can hold

# The worker computes with these, so values that are no numbers, or that no timer can hold, are refused early.
_NUMBER = (int, float)
_NUMBERS: dict[str, tuple[type, ...]] = {
    MAX_RETRIES: (int,),
    TIMEOUT: (int, float, type(None)),
    EXPIRES_AT: _NUMBER,
    RESULT_TTL: _NUMBER,
    _RESERVED: _NUMBER,
    MAX_AGE: _NUMBER,
}


def check(settings: dict[Any, Any]) -> None:
    """Errors: `SerializationError` for a setting that no caller could have made."""
    for key, value in settings.items():
        types = _NUMBERS.get(key)
        sound = types is None or (type(value) in types and (value is None or abs(value) <= _MOST_SECONDS))
        if key == RETRY_POLICY:
            # Only the numbers of a policy are checked here; the rest is checked where the policy is used.
            sound = type(value) is list and all(type(x) not in _NUMBER or 0 <= x <= _MOST_SECONDS for x in value)
        if not sound:
            raise SerializationError(f"the payload is not a task envelope: its setting {key!r} is out of range")
