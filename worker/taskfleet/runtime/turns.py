"""A turn of the worker: which queues are asked, in which order, and for how much.

Each free slot goes to the highest tier that has work. A tier is asked when those above it, asked in this turn, have
nothing left; in a worker that has many turns in a millisecond, asked a few milliseconds ago.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from taskfleet.protocol.claim import Claim

if TYPE_CHECKING:
    from taskfleet.runtime.selection import Tier
    from taskfleet.runtime.worker import Worker


class Turns:
    """The passes of one worker over its tiers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._selection = worker.selection

    def room(self, rank: int | None = None) -> int:
        """How many tasks to claim now: from the tier of that rank, or from each of them.

        What was claimed ahead from lower tiers takes no room from a higher one, whose tasks will start before it.
        """
        worker = self._worker
        if worker.draining or worker.cordoned or worker._outbox.behind:
            return 0
        if rank is None:
            rank = self._selection.lowest
        ahead = worker._prefetched
        count = len(ahead)
        if count and self._rank_of(ahead[-1]) > rank:
            count = bisect.bisect_right(ahead, rank, key=self._rank_of)
        free = worker.usable - len(worker.running) - len(worker.batches.waiting)
        return max(0, free + worker._prefetch() - count)

    def worth_claiming(self) -> bool:
        """Whether there is room for what is known to wait."""
        rank = self._selection.first_hot(self._worker.now())
        return rank is not None and self.room(rank) > 0

    def next_look(self) -> float | None:
        """Seconds until a turn is due without being asked for."""
        worker = self._worker
        if worker.draining or worker.cordoned:
            return None
        now = worker.now()
        return self._selection.next_event(now) if self.room() > 0 else self._selection.next_look(now)

    async def run(self) -> None:
        """One pass: record what has ended, and claim what there is room for."""
        worker, selection = self._worker, self._selection
        overdue = self._overdue()
        more = False  # in a higher tier
        for rank, tier in enumerate(selection.tiers):
            room = 0 if more else self.room(rank)
            now = worker.now()
            looked = room > 0 and self._is_contested(rank, now) and selection.look_again(tier, now)
            await self._ask(tier, room, overdue)
            if looked and selection.has_more(tier) and (room := self.room(rank)) > 0:
                # What was kept for a queue that has turned out to be empty goes to the others of its tier.
                await self._ask(tier, room, ())
            more = more or selection.has_more(tier)

    async def _ask(self, tier: Tier, room: int, overdue: Collection[str]) -> None:
        worker = self._worker
        shares = self._selection.shares(tier, room, worker.now())
        worker.batches.widen(shares)
        outbox = worker._outbox
        await self._call(
            [
                (name, shares.get(name, 0))
                for name in tier.weights
                if shares.get(name) or outbox.get(name) or name in overdue
            ]
        )

    async def _call(self, calls: list[tuple[str, int]]) -> None:
        worker = self._worker
        if len(calls) == 1:
            await worker._call(*calls[0])
        elif calls:
            await asyncio.gather(*(worker.spawn(worker._call(name, slots)) for name, slots in calls))
            self._mix()

    def _mix(self) -> None:
        """Claimed ahead from several queues of a tier, their tasks start by turns, in the shares of their numbers."""
        ahead = self._worker._prefetched
        if len(ahead) < 2 or ahead[0][0] == ahead[-1][0]:
            return
        boxes: dict[str, list[Claim]] = {}
        for claim in ahead:
            boxes.setdefault(claim[0], []).append(claim)
        ahead.clear()
        for rank in sorted({self._selection.rank[name] for name in boxes}):
            tier = [box for name, box in boxes.items() if self._selection.rank[name] == rank]
            rounds = min(map(len, tier))
            for n in range(rounds):
                for box in tier:
                    ahead.extend(box[len(box) * n // rounds : len(box) * (n + 1) // rounds])

    def _overdue(self) -> list[str]:
        """Queues to look at though nothing is to be claimed there: nobody else may do it for them."""
        worker = self._worker
        now = worker.now()
        resting = self.room() > 0 and not self._selection.hot(now)  # then the listeners look
        return [] if worker.draining or worker.cordoned or resting else self._selection.overdue(now)

    def _is_contested(self, rank: int, now: float) -> bool:
        """Whether something of this tier or a lower one is about to get a slot."""
        ahead = self._worker._prefetched
        return bool(ahead and self._rank_of(ahead[-1]) > rank) or self._selection.any_hot_from(rank, now)

    def _rank_of(self, claim: Claim) -> int:
        return self._selection.rank[claim[0]]

    def add_claims(self, claims: list[Claim]) -> None:
        """Put what was claimed behind what waits of its own tier and higher ones, before what waits of lower ones."""
        ahead = self._worker._prefetched
        ahead.extend(claims)
        if len(claims) < len(ahead) and self._rank_of(ahead[-len(claims) - 1]) > self._rank_of(claims[0]):
            self._worker._prefetched = deque(sorted(ahead, key=self._rank_of))
