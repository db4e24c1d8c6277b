"""Claims whose reply was lost: tasks that Redis has given to this worker without its knowledge."""

from __future__ import annotations

import asyncio
import time

from redis import exceptions as redis_exceptions

from taskfleet import ids
from taskfleet.backoff import backoff_seconds
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import replies
from taskfleet.runtime.claiming.step_calls import StepCalls
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.unstarted import Unstarted
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots

_SETTLE_SECONDS = 5.0


class UnheardClaims:
    """Remembers the calls that may have made such claims, finds the claims and returns them, before the next claim.

    They would otherwise wait until their leases expire.
    """

    def __init__(
        self,
        calls: StepCalls,
        context: RunContext,
        slots: Slots,
        held: Held,
        outbox: Outbox,
        outcomes: Outcomes,
        unstarted: Unstarted,
    ) -> None:
        self._calls = calls
        self._context = context
        self._slots = slots
        self._held = held
        self._outbox = outbox
        self._outcomes = outcomes
        self._unstarted = unstarted
        self.unsure: set[Partition] = set()  # partitions that may have such claims
        self._most: dict[Partition, int] = {}  # the number of tasks to claim after a larger reply was too large to read
        # Each is held while a claim from that partition may be in progress
        self.locks: dict[Partition, asyncio.Lock] = {}

    def lock(self, partition: Partition) -> asyncio.Lock:
        return self.locks.setdefault(partition, asyncio.Lock())

    def call_failed(self, partition: Partition, slots: int, error: BaseException) -> None:
        """A call for `slots` claims got no readable reply."""
        self.unsure.add(partition)
        if isinstance(error, replies.TooLongError):
            self._most[partition] = max(1, slots // 2)

    def most(self, partition: Partition, slots: int) -> int:
        """The number of claims, up to `slots`, that one reply may bring."""
        return min(slots, self._most[partition]) if partition in self._most else slots

    def call_succeeded(self, partition: Partition) -> None:
        """A call that claims was answered, so the next may bring more."""
        if partition in self._most:
            self._most[partition] *= 2
            if self._most[partition] >= self._slots.total:
                del self._most[partition]

    async def hand_back(self, partition: Partition) -> None:
        """Return the claims of a partition whose reply was lost. Claims too large for a reply become dead letters."""
        async with self.lock(partition):
            known = self._held.copy()
            owned = await self._calls.owned(partition)
            unheard = [
                (task_id, delivery) for task_id, delivery in owned if known.get(task_id) != (partition, delivery)
            ]
            # A task that makes every reply too large must not be returned again and again.
            suspects = [task_id for task_id, _ in unheard] if partition in self._most else []
            unreadable = await self._context.broker.unreadable(partition, suspects)
            # Each goes to the head of the queue, so the last goes first: the tasks of one sender keep their order.
            for task_id, delivery in sorted(unheard, key=lambda one: ids.order(one[0]), reverse=True):
                if task_id in unreadable:
                    self._unstarted.bury_unread(partition, task_id, delivery)
                else:
                    self._outcomes.hand_back(partition, task_id, delivery)
            self.unsure.discard(partition)

    async def settle(self) -> None:
        """After the last claim of a draining worker: a listener's claim may still have been in progress.

        What has lost the reply may make the next calls fail, too. So they are repeated for some seconds.
        """
        ends_at, failures = time.monotonic() + _SETTLE_SECONDS, 0
        for partition in sorted(self.unsure):
            while not await self._settled(partition) and time.monotonic() < ends_at:
                failures += 1
                await asyncio.sleep(backoff_seconds(failures))

    async def _settled(self, partition: Partition) -> bool:
        outcomes: list[Outcome] = []
        try:
            if partition in self.unsure:
                await self.hand_back(partition)
            if outcomes := self._outbox.pop(partition, []):
                await self._calls.step(partition, 0, outcomes)
        except (redis_exceptions.RedisError, OSError):
            self._outbox.put_back(partition, outcomes)
            return False
        return True
