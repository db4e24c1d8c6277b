"""Enqueueing of tasks that replace others of the same unique key: the call names them, so it may need repeating."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.item import KEEP_EXISTING, Extras, Item
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import Seal

_MOST_ROUNDS = 20  # calls that are repeated because another task has become the holder in the meantime


async def enqueue_replacing(
    seal: Seal,
    partition: Partition,
    items: Sequence[Item],
    enqueue: Callable[[Sequence[Item]], Awaitable[dict[int, str]]],
) -> dict[int, str]:
    """Enqueue items, with repeated calls for items that replace tasks; returns by position the holders that are kept.

    `enqueue` is one call; it returns by position the tasks that have the unique keys of items that were not added.
    """
    held = await enqueue(items)
    if not held:
        return held
    kept: dict[int, str] = {}
    for _ in range(_MOST_ROUNDS):
        again = _items_to_repeat(seal, partition, items, held)
        kept |= {at: holder for at, holder in held.items() if at not in again}
        if not again:
            return kept
        found = await enqueue(list(again.values()))
        positions = list(again)
        held = {positions[at]: holder for at, holder in found.items()}
    raise TaskQueueError(
        f"queue {queue_of(partition)!r}: a unique key is replaced by others faster than by this call; try again"
    )


def _items_to_repeat(
    seal: Seal, partition: Partition, items: Sequence[Item], held: Mapping[int, str]
) -> dict[int, Item]:
    """The `held` items to send again, by position, each with the name of the task that it replaces.

    That task is the holder, or the item of the same key before it, since a call may have several items of one key.
    """
    newest: dict[str, str] = {}  # by unique key
    again: dict[int, Item] = {}
    for at in sorted(held):
        task_id, blob, delay_ms, eta_ms, extras = items[at]
        assert extras is not None  # only items with a unique key can have a holder
        assert extras.unique_key is not None
        if extras.unique_mode != KEEP_EXISTING:
            older = newest.get(extras.unique_key, held[at])
            again[at] = (task_id, blob, delay_ms, eta_ms, _replacing(seal, partition, extras, older))
            newest[extras.unique_key] = task_id
        elif extras.unique_key in newest:
            again[at] = items[at]  # the holder of its key is not settled yet
    return again


def _replacing(seal: Seal, partition: Partition, extras: Extras, older: str) -> Extras:
    """The extras of an item that replaces the task `older`, with the sealed record of that task's end."""
    record = seal.close("result", queue_of(partition), older, extras.replaced_record)
    return replace(extras, replaces=older, replaced_record=record)
