"""Prefetch: tasks that are claimed ahead of a free slot, and the number that is worth claiming."""

from __future__ import annotations

import bisect
from collections import deque

from taskfleet.protocol.claim import CLAIM_BLOB, CLAIM_PARTITION, Claim
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.tally import Tally

_SHORT_TASK_SECONDS = 0.05  # only tasks this short are worth claiming ahead of a free slot
_SHORT_OF_SEVERAL_SECONDS = 0.005
_MOST_TASKS = 4000
_MOST_BYTES = 8 * 1_048_576
_AHEAD_SECONDS = 0.003
_MEASURE_SECONDS = 0.02


class Prefetch:
    """The claims that wait for a slot: `claims`, those of higher tiers first."""

    def __init__(self, selection: Selection, tally: Tally) -> None:
        self._rank = selection.rank
        self._tally = tally
        self._short_seconds = _SHORT_TASK_SECONDS if selection.is_one_queue else _SHORT_OF_SEVERAL_SECONDS
        self.claims: deque[Claim] = deque()
        self.starting = False  # while claims get their slots: a run that ends in the meantime starts none
        self._rate = 0.0  # tasks finished per second, smoothed
        self._task_seconds = 0.0  # duration of recent tasks
        self._step_seconds = 0.0  # duration of a call, smoothed
        self._payload_bytes = 1  # size of the last claim
        self._mark = (0.0, 0, 0.0)  # loop time, tasks finished and busy seconds at the last measurement

    # The number of claims.

    @property
    def size(self) -> int:
        """The number of tasks that end while a call is on its way. Claimed ahead, they keep the slots busy.

        Only short tasks are claimed ahead. With several queues they must be shorter still, since a claimed task gets
        the next slot even if a more urgent task arrives.
        """
        if self._task_seconds > self._short_seconds:
            return 0
        most = min(_MOST_TASKS, _MOST_BYTES // self._payload_bytes)
        return min(most, int(self._rate * (3.0 * self._step_seconds + _AHEAD_SECONDS)))

    @property
    def is_too_long(self) -> bool:
        """Whether tasks that were claimed ahead turn out to be long, while other workers may have slots for them."""
        return bool(self.claims) and self._task_seconds > _SHORT_TASK_SECONDS

    def call_took(self, seconds: float) -> None:
        self._step_seconds = seconds if not self._step_seconds else 0.8 * self._step_seconds + 0.2 * seconds

    def measure(self, now: float) -> None:
        """Update the figures with the tasks that have ended since the last measurement."""
        began, done, busy = self._mark
        total = self._tally.finished
        if now - began > _MEASURE_SECONDS and total > done:
            rate = (total - done) / (now - began)
            seconds = self._tally.busy_seconds
            self._task_seconds = (seconds - busy) / (total - done)
            # The rate rises at once and falls slowly: on a distant Redis, the first tasks end before an average would
            # show them.
            self._rate = rate if rate > self._rate else 0.8 * self._rate + 0.2 * rate
            self._mark = (now, total, seconds)

    def took_at_least(self, seconds: float) -> None:
        """Take note that no task has ended for so many seconds."""
        self._task_seconds = max(self._task_seconds, seconds)

    def forget_rate(self) -> None:
        """Claim no tasks ahead until some have been measured, since the next ones may be of another kind."""
        self._rate = 0.0

    # The order of the claims.

    def add(self, claims: list[Claim]) -> None:
        """Add new claims behind those of their own tier and higher tiers, and before those of lower tiers."""
        self._payload_bytes = len(claims[-1][CLAIM_BLOB]) or 1
        ahead = self.claims
        ahead.extend(claims)
        if len(claims) < len(ahead) and self._rank_of(ahead[-len(claims) - 1]) > self._rank_of(claims[0]):
            self.claims = deque(sorted(ahead, key=self._rank_of))

    def count_up_to(self, rank: int) -> int:
        """The number of claims of the tier of that rank and of higher ones."""
        ahead = self.claims
        if ahead and self._rank_of(ahead[-1]) > rank:
            return bisect.bisect_right(ahead, rank, key=self._rank_of)
        return len(ahead)

    def has_lower_than(self, rank: int) -> bool:
        return bool(self.claims) and self._rank_of(self.claims[-1]) > rank

    def mix(self) -> None:
        """Let tasks from several partitions of a tier start in turn, in proportion to their numbers."""
        ahead = self.claims
        if len(ahead) < 2 or ahead[0][CLAIM_PARTITION] == ahead[-1][CLAIM_PARTITION]:
            return
        boxes: dict[Partition, list[Claim]] = {}
        for claim in ahead:
            boxes.setdefault(claim[CLAIM_PARTITION], []).append(claim)
        ahead.clear()
        for rank in sorted({self._rank[partition] for partition in boxes}):
            tier = [box for partition, box in boxes.items() if self._rank[partition] == rank]
            rounds = min(map(len, tier))
            for n in range(rounds):
                for box in tier:
                    ahead.extend(box[len(box) * n // rounds : len(box) * (n + 1) // rounds])

    def _rank_of(self, claim: Claim) -> int:
        return self._rank[claim[CLAIM_PARTITION]]
