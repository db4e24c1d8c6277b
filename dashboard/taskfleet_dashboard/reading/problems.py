"""What of a page cannot be read: other programs write to Redis, too, and one damaged queue must not hide the others."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet_dashboard import text

_MOST = 10


class Problems:
    """One line for each, and how many more there are."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._more = 0

    def add(self, error: Exception) -> bool:
        """Whether it is one: what Redis refuses, though it may answer calls about other keys."""
        if not isinstance(error, CallRefusedError):
            return False
        line = text.line(str(error))
        if line not in self._lines and len(self._lines) < _MOST:
            self._lines[line] = None
        elif line not in self._lines:
            self._more += 1
        return True

    @contextlib.contextmanager
    def passed_over(self) -> Generator[None]:
        """What the block cannot read is a problem, and no error."""
        try:
            yield
        except CallRefusedError as error:
            self.add(error)

    def lines(self) -> list[str]:
        """The lines."""
        return [*self._lines, *([f"… and {self._more} more"] if self._more else [])]
