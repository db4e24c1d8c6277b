"""Work in the background that must not end in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from taskfleet import showing
from taskfleet.redis.redis_errors import backoff_seconds

logger = showing.logger("taskfleet.background")

_SETTLED_SECONDS = 60.0  # whoever has worked for so long has overcome what has ended it before


async def supervise(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work()` until it returns or is cancelled: when it ends by an exception, that is said, and it starts again.

    `what` is the subject of the log line, such as "the control listener". Later and later, up to 5 s.
    """
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await work()
            return
        except Exception:
            if time.monotonic() - began > _SETTLED_SECONDS:
                failures = 0
            failures += 1
            if failures & (failures - 1) == 0:  # the first, the second, the fourth, …
                logger.exception("%s has ended by an error and is started again (%d in a row)", what, failures)
        await asyncio.sleep(backoff_seconds(failures))
