"""A turn of the worker: the partitions to ask, in which order, and for how many tasks.

Each free slot goes to the highest tier that has work. A tier is asked when the tiers above it have no tasks left: they
are asked in the same turn, or, in a worker with many turns in a millisecond, were asked a few milliseconds ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.claiming.claimer import Claimer
from taskfleet.runtime.claiming.unheard import UnheardClaims
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection, Tier
from taskfleet.runtime.state.slots import Slots

_UNHEARD_AGAIN_SECONDS = 0.2  # after a pause that grows with each failure


class Turns:
    """The passes of one worker over its tiers."""

    def __init__(
        self,
        context: RunContext,
        selection: Selection,
        slots: Slots,
        health: Health,
        prefetch: Prefetch,
        outbox: Outbox,
        batches: Batches,
        claimer: Claimer,
        unheard: UnheardClaims,
    ) -> None:
        self._context = context
        self._selection = selection
        self._slots = slots
        self._health = health
        self._prefetch = prefetch
        self._outbox = outbox
        self._batches = batches
        self._claimer = claimer
        self._unheard = unheard

    def room(self, rank: int | None = None) -> int:
        """The number of tasks to claim now, from the tier of that rank or from each tier.

        Tasks that were claimed ahead from lower tiers take no room from a higher tier, whose tasks start before them.
        """
        if self._health.claims_nothing or self._outbox.behind:
            return 0
        prefetch = self._prefetch
        ahead = prefetch.count_up_to(self._selection.lowest if rank is None else rank)
        return max(0, self._slots.free + prefetch.size - ahead)

    def worth_claiming(self) -> bool:
        """Whether there is room for tasks that are known to wait."""
        rank = self._selection.first_hot(self._context.now())
        return rank is not None and self.room(rank) > 0

    def next_look(self) -> float | None:
        """Seconds until the next turn that is due without a notification."""
        if self._health.claims_nothing:
            # Tasks of which it does not know would wait for their leases: the call that looks for them has failed.
            return _UNHEARD_AGAIN_SECONDS if self._unheard.unsure else None
        now = self._context.now()
        return self._selection.next_event(now) if self.room() > 0 else self._selection.next_look(now)

    async def run(self) -> None:
        """One pass: record waiting outcomes, and claim tasks for the free room."""
        selection = self._selection
        nothing_waits = not (self._prefetch.claims or self._unheard.unsure or selection.hot(self._context.now()))
        if nothing_waits and self.room() > 0:
            # As far as this worker knows. Its listeners look for more when it rests.
            await self._call([(partition, 0) for partition, outcomes in self._outbox.items() if outcomes])
            return
        overdue = [*self._overdue(), *self._unheard.unsure]
        more = False  # more tasks in a higher tier
        for rank, tier in enumerate(selection.tiers):
            room = 0 if more else self.room(rank)
            now = self._context.now()
            looked = room > 0 and self._is_contested(rank, now) and selection.look_again(tier, now)
            await self._ask(tier, room, overdue)
            if looked and selection.has_more(tier) and (room := self.room(rank)) > 0:
                # The share of a partition that turned out to be empty goes to the other partitions of its tier.
                await self._ask(tier, room, ())
            more = more or selection.has_more(tier)

    async def _ask(self, tier: Tier, room: int, overdue: Collection[Partition]) -> None:
        shares = self._selection.shares(tier, room, self._context.now())
        self._batches.widen(shares, self._selection.left)
        outbox = self._outbox
        await self._call(
            [
                (partition, shares.get(partition, 0))
                for partition in tier.weights
                if shares.get(partition) or outbox.get(partition) or partition in overdue
            ]
        )

    async def _call(self, calls: list[tuple[Partition, int]]) -> None:
        if len(calls) == 1:
            await self._claimer.call(*calls[0])
        elif calls:
            spawn = self._context.spawn
            await asyncio.gather(*(spawn(self._claimer.call(partition, slots)) for partition, slots in calls))
            self._prefetch.mix()

    def _overdue(self) -> list[Partition]:
        """Partitions to check although no task is to be claimed there, since no other worker may serve them."""
        now = self._context.now()
        resting = self.room() > 0 and not self._selection.hot(now)  # the listeners check when the worker rests
        return [] if self._health.claims_nothing or resting else self._selection.overdue(now)

    def _is_contested(self, rank: int, now: float) -> bool:
        """Whether a task of this tier or a lower one is about to get a slot."""
        return self._prefetch.has_lower_than(rank) or self._selection.any_hot_from(rank, now)
