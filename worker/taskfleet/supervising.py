"""Background work that must not end in silence: it is logged and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from taskfleet import showing
from taskfleet.backoff import backoff_seconds

logger = showing.logger("taskfleet.background")

_SETTLED_SECONDS = 60.0  # work that has run for so long has overcome its earlier failures


async def supervise(subject: str, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work()` until it returns or is cancelled. When it raises, log the error and start it again after a pause.

    `subject` begins the log line, such as "the control listener". The pause grows with each failure, up to 5 s.
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
                logger.exception("%s has ended by an error and is started again (%d in a row)", subject, failures)
        await asyncio.sleep(backoff_seconds(failures))
