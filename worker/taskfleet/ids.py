"""Task ids: unique without a call to Redis, and short."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable


def _fresh() -> Callable[[], str]:
    prefix = os.urandom(8).hex()
    count = itertools.count(1)
    return lambda: f"{prefix}{next(count):x}"


_next = _fresh()


def _after_fork() -> None:
    # A child that kept the parent's prefix and counter would make the same ids as the parent.
    global _next
    _next = _fresh()


os.register_at_fork(after_in_child=_after_fork)


def new_id() -> str:
    """64 random bits of this process and a counter, in hexadecimal."""
    return _next()
