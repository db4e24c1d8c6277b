"""The pace of the pollers: however much is watched, they send Redis a bounded number of commands in a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from taskfleet.redis.permission import CommandCount, asked_before_each_command


class ReadingPace:
    """One reading at a time. After one that has sent `n` commands, the next begins `n / most_per_second` s after it.

    So in any stretch of time there are at most `most_per_second` commands a second, and those of one reading.
    """

    def __init__(self, most_per_second: float) -> None:
        self.most_per_second = most_per_second
        self.commands_total = 0
        self.readings_total = 0
        self._free_at = 0.0
        self._one = asyncio.Lock()
        self._count = CommandCount()

    @property
    def commands_now(self) -> int:
        """The commands that the reading of now has sent so far."""
        return self._count.commands

    def is_free(self) -> bool:
        """Whether a reading could begin at once."""
        return not self._one.locked() and time.monotonic() >= self._free_at

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncGenerator[None]:
        """Wait for a turn; the commands of the block are counted."""
        async with self._one:
            pause = self._free_at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            count, began = CommandCount(), time.monotonic()
            self._count = count
            try:
                with asked_before_each_command(count):
                    yield
            finally:
                self.commands_total += count.commands
                self.readings_total += 1
                self._free_at = began + count.commands / self.most_per_second
