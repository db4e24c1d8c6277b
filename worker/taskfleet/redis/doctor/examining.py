"""Looks through the keys of one partition, page by page, while its workers go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import msgpack

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.doctor import calls
from taskfleet.redis.doctor.calls import Page
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.queue_calls import QueueCalls

PARTS = (
    "task", "lease", "owner", "delayed", "fair", "parked", "blocked", "gather", "unique", "tag", "meta", "progress",
    "errors", "input", "cancel", "await", "edges", "letter", "dead", "ticks", "ticked", "schedules",
)  # fmt: skip
_FEWEST, _MOST, _PAGE_BYTES = 10, 500, 1_000_000
_LINE_PAGE = 500


@dataclass
class Examination:
    """The faults of a partition, and the schedules without a tick, which may be paused or over."""

    faults: list[Fault] = field(default_factory=list[Fault])
    untimed: list[str] = field(default_factory=list[str])


@dataclass
class _Line:
    """What a look through the ready list has found: `twice` came more than once, perhaps for the list had moved."""

    faults: list[Fault]
    twice: set[bytes]


async def pages(
    queues: QueueCalls, make: Callable[[bytes, int], ScriptCall[Page]], most: int = _MOST
) -> AsyncIterator[Page]:
    """All pages of a scan. Their length follows the size of the members."""
    cursor, count = b"0", _FEWEST
    while True:
        page = await queues.call(make(cursor, count))
        yield page
        cursor = page.cursor
        if cursor == b"0":
            return
        size = max(1, page.bytes // max(1, page.looked_at))
        count = max(1, min(2 * count, most, _PAGE_BYTES // size))


async def examine(queues: QueueCalls, partition: Partition) -> Examination:
    """Look through one partition. A fault was true in one call, and is told once."""
    names = queues.keys_of(partition)
    found: dict[tuple[str, bytes], Fault] = {}
    examination = Examination()
    unplaced: set[bytes] = set()

    def keep(faults: Iterable[Fault]) -> None:
        for fault in faults:
            found.setdefault((fault.code, fault.member), fault)

    for part in PARTS:

        def make(cursor: bytes, count: int, part: str = part) -> ScriptCall[Page]:
            return calls.members(names, partition, part, cursor, count)

        async for page in pages(queues, make):
            keep(page.faults)
            if part == "task":
                unplaced.update(page.others)
            elif part == "schedules":
                examination.untimed += map(foreign.text, page.others)
    line = await _look_through_line(queues, partition, unplaced)
    keep(line.faults)
    if line.twice:
        # Claims move the list while it is read, so that some ids come twice: others each time.
        line.twice &= (await _look_through_line(queues, partition, set())).twice
    keep(await _confirmed(queues, partition, [*unplaced, *line.twice]))
    keep((await queues.call(calls.whole(names, partition, repair=False))).faults)
    examination.faults = list(found.values())
    return examination


async def _look_through_line(queues: QueueCalls, partition: Partition, unplaced: set[bytes]) -> _Line:
    """Look through the ready list from its tail, and take what is in it from `unplaced`."""
    names = queues.keys_of(partition)
    line, seen = _Line([], set()), set[bytes]()
    last, gone, stamps, removed, length = -1, 0, set[bytes](), 0, 0
    while True:
        page = await queues.call(calls.line(names, partition, last, _LINE_PAGE))
        line.faults += page.faults
        for task_id in page.ids:
            unplaced.discard(task_id)
            if task_id in seen:
                line.twice.add(task_id)
            seen.add(task_id)
        gone, removed, length = gone + page.gone, page.removed, length + len(page.ids)
        stamps.add(page.stamp)
        if page.first <= 0:
            break
        last = page.first - 1
    if len(stamps) == 1 and gone != removed and length > _LINE_PAGE:
        detail = cast("bytes", msgpack.packb([stamps.pop(), gone], use_bin_type=False))
        evidence = f"{removed} counted, {gone} there"
        line.faults.append(Fault("removed-count", partition, "ready", b"removed", evidence, detail))
    return line


async def _confirmed(queues: QueueCalls, partition: Partition, ids: list[bytes]) -> list[Fault]:
    """The faults of tasks that were not seen in the ready list, or twice: each is looked for in one call."""
    names, faults = queues.keys_of(partition), list[Fault]()
    while ids:
        looked_at, some = await queues.call(calls.lost(names, partition, ids[:1000]))
        faults += some
        ids = ids[looked_at:]
    return faults
