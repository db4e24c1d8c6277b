"""An item: a task on its way into a queue, as `Broker.enqueue` takes it and lua/enqueue.lua reads it.

An item is a plain tuple, since a producer makes one for every task and a named tuple costs three times as much. Code
unpacks it, or reads it by the indexes below.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import msgpack

from taskfleet.errors import QueueFullError
from taskfleet.protocol.partitions import Partition

MOST_EDGES = 500  # the most that one call may add to a task

# The modes of a unique key, by their names in an application.
KEEP_EXISTING: Final = "k"
REPLACE: Final = "r"
DEBOUNCE: Final = "d"
MODE_OF = {"keep_existing": KEEP_EXISTING, "replace": REPLACE, "debounce": DEBOUNCE}


class Edge(NamedTuple):
    """A task that waits for another: its id, the position of the other in its inputs, whether it takes the result."""

    partition: Partition
    id: str
    position: int
    carries: bool


class Waits(NamedTuple):
    """The number of tasks that an item waits for, and of those that pass their results on to it, which come first.

    The item is dropped unless its workflow is confirmed within `unconfirmed_ms`; 0 means confirmed from the start.
    """

    pending: int
    carried: int
    unconfirmed_ms: int = 0


@dataclass(slots=True)
class Extras:
    """The fields of items with a key, or with a position in a workflow.

    A unique key comes with its mode. To replace a task, an item names it in `replaces`, with that task's result record
    and the time to live of the record. `edges` are the tasks that wait for this one.
    """

    unique_key: str | None = None
    unique_mode: str = KEEP_EXISTING
    limit_key: str | None = None
    fair_key: str | None = None
    replaces: str | None = None
    replaced_record: bytes = b""
    replaced_ttl_ms: int = 0
    edges: Sequence[Edge] = ()
    waits: Waits | None = None

    @property
    def has_keys(self) -> bool:
        return self.unique_key is not None or self.limit_key is not None or self.fair_key is not None

    def letters(self) -> dict[str, Any]:
        """The map that the scripts read. They store the keys and the edges under the same letters."""
        letters: dict[str, Any] = {}
        if self.unique_key is not None:
            letters |= {"u": self.unique_key, "m": self.unique_mode}
            if self.unique_mode != KEEP_EXISTING:
                letters |= {"r": self.replaced_record, "t": self.replaced_ttl_ms}
        if self.replaces is not None:
            letters["x"] = self.replaces
        if self.limit_key is not None:
            letters["l"] = self.limit_key
        if self.fair_key is not None:
            letters["f"] = self.fair_key
        if self.edges:
            letters["n"] = edge_fields(self.edges)
        if self.waits is not None:
            letters["w"] = self.waits
        return letters

    def key_letters(self) -> dict[str, str]:
        """The keys alone, as a schedule stores them for its tasks."""
        letters = {"u": self.unique_key, "m": self.unique_mode, "l": self.limit_key, "f": self.fair_key}
        if self.unique_key is None:
            del letters["m"]
        return {letter: key for letter, key in letters.items() if key is not None}

    @classmethod
    def of_key_letters(cls, letters: Mapping[str, str]) -> Extras:
        return cls(letters.get("u"), letters.get("m", KEEP_EXISTING), letters.get("l"), letters.get("f"))

    def size(self) -> int:
        """About how many bytes these take in a call."""
        size = 4 * len(self.replaced_record)
        for text in (self.unique_key, self.limit_key, self.fair_key, self.replaces):
            if text is not None:
                size += 4 * len(text)
        for partition, waiting, _, _ in self.edges:
            size += len(partition) + len(waiting) + 16
        return size


Item = tuple[str, bytes, int, int, Extras | None]
"""Task id, envelope, delay in ms, due time in Unix ms (0: none), and the fields that only some items have."""

ITEM_ID: Final = 0
ITEM_ENVELOPE: Final = 1
ITEM_DELAY_MS: Final = 2
ITEM_ETA_MS: Final = 3
ITEM_EXTRAS: Final = 4


_id, _envelope = operator.itemgetter(ITEM_ID), operator.itemgetter(ITEM_ENVELOPE)
_delay, _eta, _extras = map(operator.itemgetter, (ITEM_DELAY_MS, ITEM_ETA_MS, ITEM_EXTRAS))


def is_flat(items: Sequence[Item]) -> bool:
    """Whether ids and envelopes say all: several different tasks that are ready at once, without extras."""
    if len(items) < 2:
        return False  # the look at a single item would take as long as packing it, and Redis would gain nothing
    if any(map(_extras, items)) or any(map(_delay, items)) or any(map(_eta, items)):
        return False
    return len(set(map(_id, items))) == len(items)


def pack_items(items: Sequence[Item]) -> bytes:
    """The items as lua/enqueue.lua reads them. Errors: `TypeError`, `ValueError` and `OverflowError` of msgpack."""
    if is_flat(items):
        flat: list[str | bytes] = [b""] * (2 * len(items))
        flat[::2], flat[1::2] = map(_id, items), map(_envelope, items)
        return cast("bytes", msgpack.packb(flat, use_bin_type=False))
    # A fifth element costs Redis 8 % of a plain enqueue, even if it is nil: Lua allocates the table of the item twice.
    sent = [
        (task_id, envelope, delay_ms, eta_ms) if extras is None
        else (task_id, envelope, delay_ms, eta_ms, extras.letters())
        for task_id, envelope, delay_ms, eta_ms, extras in items
    ]  # fmt: skip
    return cast("bytes", msgpack.packb(sent, use_bin_type=False))


def pack_edges(edges: Sequence[Edge]) -> bytes:
    """The edges as lua/link.lua reads them."""
    return cast("bytes", msgpack.packb(edge_fields(edges), use_bin_type=False))


def edge_fields(edges: Sequence[Edge]) -> list[tuple[str, str, int, int]]:
    return [(partition, waiting, position, int(carries)) for partition, waiting, position, carries in edges]


def queue_full(partition: Partition, waiting: int, max_length: int) -> QueueFullError:
    """The error for a call that finds `waiting` tasks: with some room left, it brought more than fit."""
    state = f"{waiting} of at most {max_length} tasks wait"
    if waiting < max_length:
        return QueueFullError(
            f"queue {partition!r} has room for {max_length - waiting} more, and not for the whole call: {state}; "
            "send fewer at once, try again later or raise max_length"
        )
    return QueueFullError(f"queue {partition!r} is full: {state}; try again later or raise max_length")
