"""The slowest script call of a run, by the SLOWLOG of Redis, which a restart loses and a stopped process distorts.

The log has wall time. The time in which Redis did not get to run is taken off: see `stood_still`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import exceptions as redis_exceptions

TARGET_MS = 20.0
# A busy machine makes a call of a few ms last for a turn or two of the other processes, which is more than the target.
# Longer pauses of Redis are known, and do not count: a call beyond this has too much to do.
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


@dataclass(frozen=True, slots=True)
class _Call:
    """A script call: its duration in ms, when (Unix time in whole seconds) it was logged, and its first words."""

    ms: float
    logged: int
    words: str


@dataclass(frozen=True, slots=True)
class _Standstill:
    """Between two points of Unix time, Redis did not run for `seconds` although it was asked."""

    start: float
    end: float
    seconds: float


@dataclass(slots=True)
class SlowCalls:
    """The calls of the log so far."""

    _calls: list[_Call] = field(default_factory=list[_Call])
    _standstills: list[_Standstill] = field(default_factory=list[_Standstill])
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
            if words.upper().startswith(_SCRIPTS):
                call = words[:60].decode("ascii", "replace")
                self._calls.append(_Call(entry["duration"] / 1000, entry["start_time"], call))

    def stood_still(self, answered: float, waited: float, worked: float) -> None:
        """A caller waited for `waited` seconds, until `answered` (Unix time), and Redis `worked` for only some of them.

        For the rest Redis, or the way to it, did not get to run: the machine was busy. A call that has much to do works
        all the time, so nothing is taken off it.
        """
        if waited > worked:  # not when that is NaN, or negative since another process is asked
            self._standstills.append(_Standstill(answered - waited, answered, min(waited, waited - worked)))

    def _own_ms(self, call: _Call) -> float:
        """The duration of a call, without the time in which Redis did not run."""
        start, end = call.logged - call.ms / 1000, call.logged + 1  # the log has whole seconds
        paused = sum(still.seconds for still in self._standstills if still.start < end and start < still.end)
        return max(0.0, call.ms - 1000 * paused)

    @property
    def slowest(self) -> tuple[float, str]:
        """The duration (ms) of the slowest call, and its first words."""
        slowest, words = 0.0, ""
        for call in sorted(self._calls, key=lambda call: call.ms, reverse=True):
            if call.ms <= slowest:
                break
            if (own := self._own_ms(call)) > slowest:
                slowest, words = own, call.words
        return slowest, words

    @property
    def slowest_ms(self) -> float:
        return self.slowest[0]

    @property
    def defects(self) -> list[str]:
        slowest, words = self.slowest
        return [f"a script call held Redis for {slowest:.0f} ms: {words!r}"] if slowest > MOST_MS else []
