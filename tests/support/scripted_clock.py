"""Scripts on a clock of the test: their `TIME` is the last argument of the call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.redis.connection import RedisClient
from taskfleet.redis.connection_options import ConnectionOptions
from taskfleet.redis.scripts import Script

_TIME_CALL = "redis.call('TIME')"
_LAST_ARGUMENT = "{math.floor(ARGV[#ARGV] / 1000), ARGV[#ARGV] % 1000 * 1000}"


class _TimedScript(Script):
    def _read(self) -> str:
        source = super()._read().replace(_TIME_CALL, _LAST_ARGUMENT)
        assert "TIME" not in source, f"{self.name}.lua asks for the time in another way"
        return source


@functools.cache
def timed(script: Script) -> Script:
    """The same script, on the clock of its last argument."""
    return _TimedScript(script.name)


class TimedClient(RedisClient):
    """A client whose scripts run at the time that `clock` gives (ms), and that remembers the last call of each."""

    def __init__(self, options: ConnectionOptions, clock: Callable[[], int]) -> None:
        super().__init__(options)
        self._clock = clock
        self.last: dict[str, tuple[Script, Sequence[str], Sequence[Any]]] = {}

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        self.last[script.name] = (script, keys, args)
        return await super().run(timed(script), keys, (*args, self._clock()))

    async def run_each(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        return await super().run_each(timed(script), [(keys, (*args, self._clock())) for keys, args in calls])
