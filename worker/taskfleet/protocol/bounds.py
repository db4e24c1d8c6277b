"""Bounds on one call to Redis: the number of its items and of its bytes.

Redis reads a call completely before it begins and serves no other client while it runs the call. It refuses calls above
its limits (`proto-max-bulk-len`, 512 MB, and `client-query-buffer-limit`, 1 GB, unless an administrator lowered them).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from taskfleet.protocol.item import ITEM_ENVELOPE, ITEM_EXTRAS, Item
from taskfleet.protocol.outcome import OUTCOME_EXTRA, OUTCOME_RESULT, Outcome

T = TypeVar("T")

CHUNK = 1000  # items in one call: bounded, so that no call holds a queue for long
MOST_TAGGED = 500  # as `CHUNK`, when one of the items has keys or edges: each takes Redis up to 16 µs
CALL_BYTES = 2 * 1_048_576  # bytes in a call of several items, for which Redis takes up to 8 ms; a larger one is alone
SURE_BYTES = 1_048_576 - 65_536  # below the lowest values that the limits of Redis can have
_FRAME = 64  # bytes of an item's id and numbers
_envelope = operator.itemgetter(ITEM_ENVELOPE)
_extras = operator.itemgetter(ITEM_EXTRAS)


def windows(
    items: Sequence[T], size_of: Callable[[T], int], most_bytes: int = CALL_BYTES
) -> Iterator[tuple[int, int, int]]:
    """(start, end, bytes) of consecutive parts: at most `CHUNK` items and `most_bytes`, and at least one item.

    Of tasks, where one has keys or edges: at most `MOST_TAGGED`.
    """
    most = MOST_TAGGED if size_of is item_bytes and _any_tagged(items) else CHUNK
    for start in range(0, len(items), most):
        part = items[start : start + most]
        size = _items_bytes(part) if size_of is item_bytes else sum(map(size_of, part))
        if size <= most_bytes:
            yield start, start + len(part), size
            continue
        first = size = 0
        for at, item in enumerate(part):
            more = size_of(item)
            if at > first and size + more > most_bytes:
                yield start + first, start + at, size
                first, size = at, 0
            size += more
        yield start + first, start + len(part), size


def _any_tagged(items: Sequence[Any]) -> bool:
    return any(map(_extras, items))


def _items_bytes(items: Sequence[Any]) -> int:
    # Most items have only an envelope, and a bulk has many of them: no function call for each.
    if not _any_tagged(items):
        return sum(map(len, map(_envelope, items))) + _FRAME * len(items)
    return sum(map(item_bytes, items))


def item_bytes(item: Item) -> int:
    """About how many bytes a task takes in a call that adds it."""
    extras = item[ITEM_EXTRAS]
    return len(item[ITEM_ENVELOPE]) + _FRAME + (_FRAME + extras.size() if extras is not None else 0)


def outcome_bytes(outcome: Outcome) -> int:
    """About how many bytes an outcome takes in a call that records it."""
    extra = outcome[OUTCOME_EXTRA]
    record = extra[1] if type(extra) is tuple else extra
    return len(outcome[OUTCOME_RESULT]) + (len(record) if type(record) is bytes else 0) + _FRAME


def id_bytes(held: tuple[str, object]) -> int:
    """About how many bytes a pair of task id and delivery takes."""
    task_id, _ = held
    return 4 * len(task_id) + 16
