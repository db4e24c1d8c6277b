"""What a call sets for itself: the map in a task's envelope, and the names of its keys.

Keys that a reader does not know are of a newer version, and are left alone.
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
INPUT_SHAPE: Final = "i"  # how the results that it takes are nested
INPUT_SOURCES: Final = "s"  # where results are sealed: (queue, id) of each task whose result it takes
HEADERS: Final = "h"
_RESERVED: Final = "c"

_MOST_SECONDS = 1e10  # longer than 300 years: what timers and Redis' times to live can hold

# The worker reckons with these: a value that is no number, or one that no timer can hold, must not get as far.
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
            # What is odd about a policy besides its numbers is met where it is used.
            sound = type(value) is list and all(type(x) not in _NUMBER or 0 <= x <= _MOST_SECONDS for x in value)
        if not sound:
            raise SerializationError(f"the payload is not a task envelope: its setting {key!r} is out of range")
