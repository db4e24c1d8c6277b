"""The manifest's schedules while `taskfleet up` runs: set as the operator sets them, and removed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.partitions import queue_of
from taskfleet.redis.broker import RedisBroker

from .. import kept_schedules
from ..kept_schedules import Owner, WantedSchedule

_LOOK_SECONDS = 30.0  # another run of the manifest removes them at its end, and a Redis without a disk loses them
_RETRY_SECONDS = 2.0
_REMOVE_SECONDS = 5.0


class LocalSchedules:
    """Keeps `wanted` in Redis. `say` is told what changes, one line each."""

    def __init__(
        self,
        owner: Owner,
        wanted: Sequence[WantedSchedule],
        queues: Collection[str],
        broker: RedisBroker,
        say: Callable[[str], None],
    ) -> None:
        self._owner = owner
        self._wanted = wanted
        self._queues = queues
        self._broker = broker
        self._say = say
        self._told: set[str] = set()

    async def keep(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            seconds = _LOOK_SECONDS
            try:
                await self._bring(self._wanted)
                if not self._wanted:
                    await asyncio.Event().wait()  # what an earlier version of the manifest has left is gone
            except (TaskQueueError, OSError) as error:
                self._once(f"the schedules of the manifest are not kept: {error}")
                seconds = _RETRY_SECONDS
            await asyncio.sleep(seconds)

    async def remove(self) -> None:
        """Remove those of this manifest."""
        if not self._wanted:
            return
        try:
            async with asyncio.timeout(_REMOVE_SECONDS):
                await self._bring(())
        except (TaskQueueError, TimeoutError, OSError) as error:
            self._say(f"the schedules of the manifest stay in Redis: {str(error) or 'it does not answer'}")

    async def _bring(self, wanted: Sequence[WantedSchedule]) -> None:
        # An earlier version of the manifest may have left one in a queue that this one no longer has.
        there = await kept_schedules.stored(self._broker, self._queues, everywhere=True)
        plan = kept_schedules.plan_of(self._owner, wanted, there)
        await kept_schedules.carry_out(self._broker, plan)
        for one in plan.add:
            self._say(f"schedule {one.name} of queue {queue_of(one.partition)} is set")
        for entry in plan.remove:
            self._say(f"schedule {entry.name} of queue {queue_of(entry.partition)} is removed")
        for name, whose in plan.foreign.items():
            self._once(f"schedule {name} is not set: there is one of that name, of {whose}, which stays as it is")

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)
