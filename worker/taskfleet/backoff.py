"""The backoff of repeated tries, and tries while a queue is full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from taskfleet.errors import QueueFullError

T = TypeVar("T")

_MOST_STEPS = 4  # a producer that waits for room tries again after at most 0.8 s


def backoff_seconds(failures: int) -> float:
    """Seconds until the next try: 0.05, doubled with each failure up to 5. Half of it is random, to spread callers."""
    ceiling = min(5.0, 0.05 * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + random.random() / 2)


async def until_room(seconds: float, send: Callable[[], Awaitable[T]]) -> T:
    """Call `send` again while it raises `QueueFullError`, for at most `seconds`; then the error is raised."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    attempt = 0
    while True:
        try:
            return await send()
        except QueueFullError:
            delay = min(backoff_seconds(min(attempt, _MOST_STEPS)), until - loop.time())
            if delay <= 0:
                raise
        attempt += 1
        await asyncio.sleep(delay)
