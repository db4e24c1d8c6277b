"""Finds blocked tasks that nobody will ever wake: no task that they wait for is left in any partition.

An edge moves from the tag of a task to `edges`, into an outbox, and then into `gather` of the waiting task, and never
back. So they are read in this order, `gather` last. No time passes by which a sender must have done something: a task
counts as complete when its sender has confirmed it, after its last edge, and a gate when it is open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import cast

import msgpack

from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.signal import Signal
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.doctor import calls
from taskfleet.redis.doctor.calls import Page, Waiting
from taskfleet.redis.doctor.examining import pages
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.keys import QueueKeys
from taskfleet.redis.queue_calls import QueueCalls

_IDS_TOGETHER = 200
_EDGES_TOGETHER = 50  # tags in one call: each may have 500 edges
_SIGNALS_TOGETHER = 16

Missing = dict[tuple[str, bytes], dict[int, None]]
"""(partition, blocked task) → the positions that nobody has told yet."""


async def forsaken(queues: QueueCalls, partitions: Sequence[Partition]) -> list[Fault]:
    """The blocked tasks of these partitions, all that there are, that wait for nothing."""
    counts: dict[tuple[str, bytes], Fault] = {}
    missing = await _missing(queues, partitions, counts)
    if missing:
        await _drop_expected(queues, partitions, missing)
    if missing:
        still = await _missing(queues, partitions, {}, only=missing)
        await _drop_expected(queues, partitions, still)
        # What has moved into `gather` meanwhile is there now.
        missing = await _missing(queues, partitions, {}, only=still) if still else {}
    return [*counts.values(), *(_fault(*key, list(positions)) for key, positions in missing.items())]


def _fault(partition: str, task_id: bytes, positions: list[int]) -> Fault:
    detail = cast("bytes", msgpack.packb(positions))
    told = ", ".join(map(str, positions[:5])) + (", …" if len(positions) > 5 else "")
    return Fault("waits-for-nothing", Partition(partition), "blocked", task_id, f"position {told}", detail)


async def _missing(
    queues: QueueCalls,
    partitions: Sequence[Partition],
    counts: dict[tuple[str, bytes], Fault],
    only: Missing | None = None,
) -> Missing:
    """The positions that blocked tasks of complete workflows wait for, or those of `only` that still do."""
    found: Missing = {}
    for partition in partitions:
        ids = await _blocked(queues, partition) if only is None else [i for name, i in only if name == partition]
        for waiting in await _waiting(queues, partition, ids):
            key = (partition, waiting.task_id)
            if waiting.wide:
                continue
            if waiting.pending != len(waiting.missing):
                evidence = f"{waiting.pending} counted, {len(waiting.missing)} missing"
                counts[key] = Fault("gather-count", partition, "blocked", waiting.task_id, evidence)
            if waiting.confirmed and waiting.missing:
                known = waiting.missing if only is None else [n for n in waiting.missing if n in only[key]]
                if known:
                    found[key] = dict.fromkeys(known)
    return found


async def _blocked(queues: QueueCalls, partition: Partition) -> list[bytes]:
    key, found = queues.keys_of(partition).blocked, dict[bytes, None]()
    cursor = 0
    while True:
        cursor, entries = await queues.patiently(
            lambda cursor=cursor: queues.client.redis.zscan(key, cursor, count=_IDS_TOGETHER)
        )
        found |= dict.fromkeys(task_id for task_id, _ in entries)
        if not cursor:
            return list(found)


async def _waiting(queues: QueueCalls, partition: Partition, ids: list[bytes]) -> list[Waiting]:
    names, found = queues.keys_of(partition), list[Waiting]()
    while ids:
        looked_at, some = await queues.call(calls.waiting(names, ids[:_IDS_TOGETHER]))
        found += some
        ids = ids[looked_at:]
    return found


async def _drop_expected(queues: QueueCalls, partitions: Sequence[Partition], missing: Missing) -> None:
    """Take the positions from `missing` that a task, or a signal under way, will tell."""

    def expected(partition: str, task_id: bytes, position: int) -> None:
        positions = missing.get((partition, task_id))
        if positions is not None:
            positions.pop(position, None)
            if not positions:
                del missing[partition, task_id]

    for part in ("tag", "edges"):
        for partition in partitions:
            names = queues.keys_of(partition)

            def make(cursor: bytes, count: int, part: str = part, names: QueueKeys = names) -> ScriptCall[Page]:
                return calls.edges(names, part, cursor, count)

            async for page in pages(queues, make, _EDGES_TOGETHER):
                for queue, task_id, position in page.others:
                    expected(queue.decode(errors="replace"), task_id, position)
    for partition in partitions:
        for signal in await _signals(queues, partition):
            expected(signal.partition, signal.id.encode(), signal.position)


async def _signals(queues: QueueCalls, partition: Partition) -> list[Signal]:
    """The signals in an outbox, from its tail: others that are delivered meanwhile move it towards its head."""
    outbox, found = queues.keys_of(partition).outbox, list[Signal]()
    last = await queues.patiently(lambda: queues.client.redis.llen(outbox)) - 1
    while last >= 0:
        first = max(0, last - _SIGNALS_TOGETHER + 1)
        entries = await queues.patiently(lambda first=first, last=last: queues.client.redis.lrange(outbox, first, last))
        for entry in entries:
            with contextlib.suppress(Exception):  # damaged bytes can raise anything; the relay drops them
                found.append(Signal.of_packed(entry, partition)._replace(value=b""))  # it may be large
        last = first - 1
    return found
