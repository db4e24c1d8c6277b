"""The outbox: outcomes that wait to be recorded, and the number of them that one call carries."""

from __future__ import annotations

import asyncio
import operator

from taskfleet.protocol import bounds
from taskfleet.protocol.outcome import OUTCOME_EXTRA, OUTCOME_RESULT, Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import redis_errors

_result, _extra = operator.itemgetter(OUTCOME_RESULT), operator.itemgetter(OUTCOME_EXTRA)
_RECORDS = frozenset((bytes, tuple))  # types of an extra with an error record
_REFUSALS = 3  # failed calls with one large outcome, while Redis answers other calls
_GROW_AFTER = 64  # successful calls before larger ones are tried again


class Outbox(dict[Partition, list[Outcome]]):
    """The outcomes of each partition, oldest first.

    A call carries at most `bounds.CALL_BYTES`, and less after Redis has refused one, since its limits may be lower.
    `behind` are the partitions whose outcomes did not all fit into the last call. While there are any, the worker
    claims no tasks, so that its memory is bounded by its slots.
    """

    def __init__(self, wanted: asyncio.Event) -> None:
        super().__init__()
        self._wanted = wanted
        self.behind: set[Partition] = set()
        self._most_bytes = bounds.CALL_BYTES
        self._went_well = 0
        self._refused: dict[Partition, int] = {}  # partition → how often a call with only its first outcome was refused

    def add(self, partition: Partition, outcome: Outcome) -> None:
        """Record an outcome with the next call that is made anyway."""
        self.setdefault(partition, []).append(outcome)

    def post(self, partition: Partition, outcome: Outcome) -> None:
        """Record an outcome soon: the worker makes a call for it."""
        box = self.get(partition)
        if box is None:
            self[partition] = [outcome]
            self._wanted.set()
        else:
            box.append(outcome)

    def take(self, partition: Partition) -> list[Outcome]:
        """The outcomes for one call."""
        box = self.pop(partition, None)
        if box is None:
            return []
        # Most results are small or empty, and most outcomes are no errors.
        small = (
            len(box) <= bounds.CHUNK
            and sum(map(len, map(_result, box))) <= bounds.SURE_BYTES // 2
            and _RECORDS.isdisjoint(map(type, map(_extra, box)))
        )
        if small:
            if self.behind:
                self.behind.discard(partition)
            return box
        _, end, _ = next(bounds.windows(box, bounds.outcome_bytes, self._most_bytes))
        if end < len(box):
            self[partition] = box[end:]
        if end < len(box) and end < bounds.CHUNK:
            self.behind.add(partition)
        else:
            self.behind.discard(partition)
        return box[:end]

    def put_back(self, partition: Partition, outcomes: list[Outcome]) -> None:
        """Put the outcomes of a failed call before those that came later."""
        if outcomes:
            self[partition] = outcomes + self.get(partition, [])

    def succeeded(self, partition: Partition) -> None:
        """Take note that a call was answered."""
        if self._refused:
            self._refused.pop(partition, None)
        if self._most_bytes < bounds.CALL_BYTES:
            self._went_well += 1
            if self._went_well >= _GROW_AFTER:
                self._went_well = 0
                self._most_bytes = min(bounds.CALL_BYTES, 2 * self._most_bytes)

    def failed(self, outcomes: list[Outcome], error: Exception) -> bool:
        """Make the next call smaller after a failure.

        Returns whether the connection closed on one large outcome alone.
        """
        size = sum(map(bounds.outcome_bytes, outcomes))
        if size <= bounds.SURE_BYTES or not (
            redis_errors.is_too_large(error) or redis_errors.is_connection_lost(error)
        ):
            return False
        self._went_well = 0
        self._most_bytes = max(bounds.SURE_BYTES, min(self._most_bytes, size // 2))
        return len(outcomes) == 1 and redis_errors.is_connection_closed(error)

    def refused(self, partition: Partition) -> bool:
        """Whether Redis keeps closing the connection on a call with one large outcome, while it answers other calls."""
        self._refused[partition] = self._refused.get(partition, 0) + 1
        return self._refused[partition] >= _REFUSALS
