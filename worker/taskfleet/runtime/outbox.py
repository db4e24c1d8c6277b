"""Outcomes that wait to be recorded, and how many of them one call takes."""

from __future__ import annotations

import operator

from taskfleet.protocol import bounds
from taskfleet.protocol.outcome import Outcome
from taskfleet.redis import redis_errors

_result, _extra = operator.itemgetter(4), operator.itemgetter(6)
_REFUSALS = 3  # a large outcome whose call has ended so often without a reply, from a Redis that answers others
_GROW_AFTER = 64  # calls that went well before larger ones are tried again


class Outbox(dict[str, list[Outcome]]):
    """The outcomes of each queue, oldest first.

    A call carries at most `bounds.CALL_BYTES`, and fewer after Redis has refused one: somebody may have lowered its
    limits. `behind` are the queues whose outcomes did not all fit into the last call: while there are any, the worker
    claims nothing, so that what it holds is bounded by its slots.
    """

    def __init__(self) -> None:
        super().__init__()
        self.behind: set[str] = set()
        self._most_bytes = bounds.CALL_BYTES
        self._went_well = 0
        self._refused: dict[str, int] = {}  # queue → how often its first outcome was, alone

    def add(self, queue: str, outcome: Outcome) -> None:
        self.setdefault(queue, []).append(outcome)

    def take(self, queue: str) -> list[Outcome]:
        """The outcomes for one call."""
        box = self.pop(queue, None)
        if box is None:
            return []
        # Mostly there are small results or none, and no errors.
        small = (
            len(box) <= bounds.CHUNK
            and sum(map(len, map(_result, box))) <= bounds.SURE_BYTES // 2
            and bytes not in set(map(type, map(_extra, box)))
        )
        if small:
            if self.behind:
                self.behind.discard(queue)
            return box
        _, end, _ = next(bounds.windows(box, bounds.outcome_bytes, self._most_bytes))
        if end < len(box):
            self[queue] = box[end:]
        if end < len(box) and end < bounds.CHUNK:
            self.behind.add(queue)
        else:
            self.behind.discard(queue)
        return box[:end]

    def put_back(self, queue: str, outcomes: list[Outcome]) -> None:
        """A call failed: its outcomes are the first of the next."""
        if outcomes:
            self[queue] = outcomes + self.get(queue, [])

    def succeeded(self, queue: str) -> None:
        """A call was answered."""
        if self._refused:
            self._refused.pop(queue, None)
        if self._most_bytes < bounds.CALL_BYTES:
            self._went_well += 1
            if self._went_well >= _GROW_AFTER:
                self._went_well = 0
                self._most_bytes = min(bounds.CALL_BYTES, 2 * self._most_bytes)

    def failed(self, outcomes: list[Outcome], error: Exception) -> bool:
        """A call failed: the next is smaller. Returns whether its connection was closed on one large outcome alone."""
        size = sum(map(bounds.outcome_bytes, outcomes))
        if size <= bounds.SURE_BYTES or not (
            redis_errors.is_too_large(error) or redis_errors.is_connection_lost(error)
        ):
            return False
        self._went_well = 0
        self._most_bytes = max(bounds.SURE_BYTES, min(self._most_bytes, size // 2))
        return len(outcomes) == 1 and redis_errors.is_connection_closed(error)

    def refused(self, queue: str) -> bool:
        """Redis answers, but closes the connection on a call with one large outcome: whether it will do so for ever."""
        self._refused[queue] = self._refused.get(queue, 0) + 1
        return self._refused[queue] >= _REFUSALS
