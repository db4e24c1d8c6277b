"""Whether Redis can be reached, as the status tells it: not while it fails again and again."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN_SECONDS = 300.0
"""A Redis that fails again so soon after it has answered is flapping."""
STEADY_SECONDS = 60.0
"""For so long it has to answer each time before that is over."""


@dataclass(slots=True)
class Reachability:
    """What the looks of one TaskQueue have met. A first outage ends with the first answer.

    `failure` is the last error, "" while Redis can be reached.
    """

    failure: str = ""
    flapping: bool = False
    _answered_at: float = float("-inf")
    """When the last outage was over."""
    _answers_since: float | None = None
    """Since when it has answered each time; None while it does not."""

    def saw(self, failure: str, now: float) -> None:
        """Take in one look, of which `failure` is the error, "" if it had none."""
        if failure:
            self.flapping = self.flapping or (not self.failure and now - self._answered_at < AGAIN_SECONDS)
            self.failure, self._answers_since = failure, None
        elif self.failure:
            self._answers_since = now if self._answers_since is None else self._answers_since
            if not self.flapping or now - self._answers_since >= STEADY_SECONDS:
                self.failure, self.flapping, self._answered_at = "", False, now
