"""A request that is refused: its status, and one line that says why and what to do."""

from __future__ import annotations

from taskfleet import showing

_MOST_CHARACTERS = 1000


class Refused(Exception):
    """The answer to a request is this status with `{"error": text}`."""

    def __init__(self, status: int, text: str, *, login: str | None = None) -> None:
        super().__init__(showing.shown(" ".join(text.split()), _MOST_CHARACTERS))
        self.status = status
        self.login = login
