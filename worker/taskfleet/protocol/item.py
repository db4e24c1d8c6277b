"""An item: a task on its way into a queue, as `Broker.enqueue` takes it and lua/enqueue.lua reads it.

An item is a plain tuple, since a producer makes one for every task and a named tuple costs three times as much. It is
read by unpacking, or by the indexes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskfleet.errors import QueueFullError
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Seal

Item = tuple[str, bytes, int, int] | tuple[str, bytes, int, int, dict[str, Any]]
"""Task id, envelope, delay in ms, due time in Unix ms (0: none), and for some tasks what enqueue.lua calls `more`."""

ITEM_ID: Final = 0
ITEM_ENVELOPE: Final = 1

# Partition, id and position of a task that waits for another, and 1 when it is given the result.
Edge = tuple[str, str, int, int]

MOST_EDGES = 500  # that one call may add to a task
REPLACEMENTS = 20  # how often a call comes again because another has replaced the task that it was to replace


def replacing(seal: Seal, queue: str, more: dict[str, Any], older: str) -> dict[str, Any]:
    """What enqueue.lua calls `more`, naming the task to replace, with the record of that one's end."""
    return {**more, "x": older, "r": seal.close("result", queue_of(queue), older, more["r"])}


def coming_again(seal: Seal, queue: str, items: Sequence[Item], held: Mapping[int, str]) -> dict[int, Item]:
    """By position, those of the `held` that are to be sent again: each names the task that it is to replace.

    That is the one told, or the one before it among these: a call may hold many of one key.
    """
    before: dict[str, str] = {}  # unique key → the newest so far
    again: dict[int, Item] = {}
    for at in sorted(held):
        item = items[at]
        more = more_of(item)
        if more["m"] != "k":
            older = before.get(more["u"], held[at])
            again[at] = (*item[:4], replacing(seal, queue, more, older))
            before[more["u"]] = item[0]
        elif more["u"] in before:
            again[at] = item  # whom it finds is not settled yet
    return again


def more_of(item: Item) -> dict[str, Any]:
    """What enqueue.lua calls `more`."""
    return item[4] if len(item) > 4 else {}


def queue_full(queue: str, waiting: int, max_length: int) -> QueueFullError:
    return QueueFullError(
        f"queue {queue!r} is full: {waiting} of at most {max_length} tasks wait; try again later or raise max_length"
    )
