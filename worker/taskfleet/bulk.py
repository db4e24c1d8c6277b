"""Many messages on their way to Redis, of which only so many bytes are kept in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from taskfleet.protocol import bounds
from taskfleet.protocol.item import ITEM_ID, Item

KEPT_BYTES = 4 * bounds.CALL_BYTES


class Bulk:
    """Encoded messages, and the partition of each.

    All are encoded before the first is sent, so that a bad one leaves nothing behind. What is encoded beyond
    `KEPT_BYTES` is let go, and encoded again by `encode(its number, its id)` when its turn comes: a program that sends
    more than its memory holds (one large argument, many times) needs no more than a few calls' worth.
    """

    def __init__(self, encode: Callable[[int, str], Item]) -> None:
        self._encode = encode
        self.places: list[str] = []
        self.items: list[Item] = []
        self._let_go: dict[int, int] = {}  # position → number of the message

    def let_go(self, task_id: str, number: int) -> None:
        """Keep no more of the next item than whose turn it is."""
        self._let_go[len(self.items)] = number
        self.items.append((task_id, b"", 0, 0, None))

    def by_place(self) -> dict[str, Sequence[int]]:
        """The positions of each partition's messages, in order."""
        if self.places and self.places.count(self.places[0]) == len(self.places):
            return {self.places[0]: range(len(self.places))}
        found: dict[str, list[int]] = defaultdict(list)
        for position, place in enumerate(self.places):
            found[place].append(position)
        return dict(found)

    def parts(self, positions: Sequence[int]) -> Iterator[tuple[int, Sequence[Item]]]:
        """(how many come before it, items) of parts that are in memory at once."""
        if not self._let_go:
            yield 0, self.items if len(positions) == len(self.items) else [self.items[at] for at in positions]
            return
        part: list[Item] = []
        start = size = 0
        for count, position in enumerate(positions):
            item = self.items[position]
            if position in self._let_go:
                item = self._encode(self._let_go[position], item[ITEM_ID])
            more = bounds.item_bytes(item)
            if part and size + more > bounds.CALL_BYTES:
                yield start, part
                part, start, size = [], count, 0
            part.append(item)
            size += more
        yield start, part
