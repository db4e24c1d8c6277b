"""Retry policies: how long a failed task waits before its next attempt."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from taskfleet import checks

Kind = Literal["fixed", "linear", "exponential"]
_kind = checks.choice(get_args(Kind))

MAX_SECONDS = float(checks.MOST_SECONDS)  # the longest delay: a later attempt would never come


class RetryLater(Exception):
    """Raise it inside a task to run the task again after `delay` (seconds, or a timedelta).

    It uses up an attempt like any other failure. A negative delay counts as 0. A subclass that sets no delay is retried
    by the task's policy.

    Errors: `ValueError` for a delay that is not a finite number, or is longer than 100 years.
    """

    delay: float | None = None

    def __init__(self, delay: float | timedelta) -> None:
        seconds = seconds_of_delay(delay)
        super().__init__(f"retry in {seconds:g} s")
        self.delay = seconds


def seconds_of_delay(delay: Any) -> float | None:
    """The seconds of a delay, `None` for none. Errors: `ValueError` names the problem."""
    if delay is None:
        return None
    try:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(delay, (str, bytes)) or not seconds <= MAX_SECONDS:
        raise ValueError(
            f"RetryLater({delay!r}): a delay is a number of seconds up to {MAX_SECONDS:.0f}, or a timedelta"
        )
    return max(0.0, seconds)


@dataclass(frozen=True, slots=True)
class Retry:
    """A backoff policy; delays in seconds, or timedeltas, of at most 100 years. Errors: `ConfigurationError`.

    The jitter of `exponential` is full: uniform between 0 and the computed delay, so that tasks that
    failed together do not come back together.
    """

    kind: Kind
    delay: float
    max_delay: float
    jitter: bool

    @classmethod
    def fixed(cls, delay: float | timedelta) -> Retry:
        """The same delay every time."""
        seconds = checks.seconds("delay", delay)
        return cls("fixed", seconds, seconds, False)

    @classmethod
    def linear(cls, delay: float | timedelta, *, max_delay: float | timedelta = 3600.0) -> Retry:
        """`delay`, 2·`delay`, 3·`delay`, … up to `max_delay`."""
        return cls("linear", checks.seconds("delay", delay), checks.seconds("max_delay", max_delay), False)

    @classmethod
    def exponential(
        cls, base: float | timedelta = 1.0, *, max_delay: float | timedelta = 3600.0, jitter: bool = True
    ) -> Retry:
        """`base`, 2·`base`, 4·`base`, … up to `max_delay`, each drawn between 0 and that when `jitter`."""
        return cls("exponential", checks.seconds("base", base), checks.seconds("max_delay", max_delay), jitter)

    def __post_init__(self) -> None:
        _kind("kind", self.kind)
        object.__setattr__(self, "delay", checks.seconds("delay", self.delay))
        object.__setattr__(self, "max_delay", checks.seconds("max_delay", self.max_delay))
        checks.flag("jitter", self.jitter)

    def packed(self) -> list[Any]:
        """The policy as an envelope stores it."""
        return [self.kind, self.delay, self.max_delay, self.jitter]

    def seconds(self, attempt: int) -> float:
        """The delay after the failed `attempt` (the first is 1)."""
        if self.kind == "fixed":
            return self.delay
        if self.kind == "linear":
            return min(self.max_delay, self.delay * attempt)
        # 2**63 seconds exceed every max_delay; the bound keeps the power within a float.
        ceiling = min(self.max_delay, self.delay * 2.0 ** min(attempt - 1, 62))
        return random.uniform(0.0, ceiling) if self.jitter else ceiling


DEFAULT_RETRY = Retry.exponential()


def delay_ms(seconds: float) -> int:
    """A delay in whole milliseconds, rounded up, of at most `MAX_SECONDS`."""
    return math.ceil(min(seconds, MAX_SECONDS) * 1000)
