"""Tasks that replace others of the same unique key: an enqueue call names them, so it may have to be sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.item import KEEP_EXISTING, Extras, Item
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import Seal

_MOST_ROUNDS = 20  # how often a call is sent again because another has replaced the task that it was to replace


async def enqueue_replacing(
    seal: Seal,
    partition: Partition,
    items: Sequence[Item],
    enqueue: Callable[[Sequence[Item]], Awaitable[dict[int, str]]],
) -> dict[int, str]:
    """Enqueue items, again where they are to replace tasks; returns by position the holders that are kept.

    `enqueue` is one call; it returns by position the tasks that have the unique keys of items that were not added.
    """
    held = await enqueue(items)
    if not held:
        return held
    kept: dict[int, str] = {}
    for _ in range(_MOST_ROUNDS):
        again = _coming_again(seal, partition, items, held)
        kept |= {at: holder for at, holder in held.items() if at not in again}
        if not again:
            return kept
        found = await enqueue(list(again.values()))
        positions = list(again)
        held = {positions[at]: holder for at, holder in found.items()}
    raise TaskQueueError(
        f"queue {queue_of(partition)!r}: a unique key is replaced by others faster than by this call; try again"
    )


def _coming_again(seal: Seal, partition: Partition, items: Sequence[Item], held: Mapping[int, str]) -> dict[int, Item]:
    """By position, those of the `held` that are to be sent again: each names the task that it is to replace.

    That is the holder, or the item of the same key before it: a call may have many of one key.
    """
    newest: dict[str, str] = {}  # by unique key
    again: dict[int, Item] = {}
    for at in sorted(held):
        task_id, blob, delay_ms, eta_ms, extras = items[at]
        assert extras is not None  # only a unique key is held by another task
        assert extras.unique_key is not None
        if extras.unique_mode != KEEP_EXISTING:
            older = newest.get(extras.unique_key, held[at])
            again[at] = (task_id, blob, delay_ms, eta_ms, _replacing(seal, partition, extras, older))
            newest[extras.unique_key] = task_id
        elif extras.unique_key in newest:
            again[at] = items[at]  # which task holds its key is not settled yet
    return again


def _replacing(seal: Seal, partition: Partition, extras: Extras, older: str) -> Extras:
    """The extras of an item that is to replace the task `older`, with the sealed record of that task's end."""
    record = seal.close("result", queue_of(partition), older, extras.replaced_record)
    return replace(extras, replaces=older, replaced_record=record)
