"""The slowest script call of a run, by the SLOWLOG of Redis, which a restart loses and a stopped process distorts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import exceptions as redis_exceptions

TARGET_MS = 20.0
# The log has wall time. A busy machine makes a call of a few ms last for a turn or two of the other processes, which is
# more than the target, and never so much: a call beyond this has too much to do.
MOST_MS = 25 * TARGET_MS

_LOGGED_US = 1000
_MOST_ENTRIES = 1024
_PATIENCE_SECONDS = 3.0  # a Redis that is stopped or busy must not hold up the run
_SCRIPTS = (b"EVAL", b"FCALL")


@contextlib.asynccontextmanager
async def _if_it_answers() -> AsyncIterator[None]:
    with contextlib.suppress(redis_exceptions.RedisError, OSError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield


@dataclass(slots=True)
class SlowCalls:
    """The slowest call so far, in ms, and its first words."""

    slowest_ms: float = 0.0
    call: str = ""
    _distorted: bool = False
    _resets: int = 0

    async def begin(self, redis: Any) -> None:
        """Set up the log of a Redis that has just started. One that does not answer keeps its own settings."""
        async with _if_it_answers():
            await redis.config_set("slowlog-log-slower-than", _LOGGED_US)
            await redis.config_set("slowlog-max-len", _MOST_ENTRIES)

    async def read(self, redis: Any) -> None:
        """Take what the log has, and empty it. A Redis that does not answer has nothing to tell."""
        async with _if_it_answers():
            resets = self._resets
            entries = await redis.slowlog_get(_MOST_ENTRIES)
            if not self._distorted and resets == self._resets:  # nor was it while the answer was on its way
                self.take(entries)
                await redis.slowlog_reset()

    @contextlib.asynccontextmanager
    async def stopped(self, redis: Any) -> AsyncIterator[None]:
        """Inside the block the process is stopped, perhaps within a call: nobody takes what the log has of that time.

        At its end the process has answered.
        """
        await self.read(redis)
        self._distorted = True
        yield
        while self._distorted:
            async with _if_it_answers():
                await redis.slowlog_reset()
                self._distorted = False
                self._resets += 1

    def take(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for entry in entries:
            words = bytes(entry["command"])
            if words.upper().startswith(_SCRIPTS) and entry["duration"] / 1000 > self.slowest_ms:
                self.slowest_ms = entry["duration"] / 1000
                self.call = words[:60].decode("ascii", "replace")

    @property
    def defects(self) -> list[str]:
        if self.slowest_ms <= MOST_MS:
            return []
        return [f"a script call held Redis for {self.slowest_ms:.0f} ms: {self.call!r}"]
