"""Looks through the keys of one partition, page by page, while its workers go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.doctor import calls
from taskfleet.redis.doctor.calls import Page
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.doctor.line import MOST_IDS, Share, look_through
from taskfleet.redis.queue_calls import QueueCalls

PARTS = (
    "lease", "owner", "delayed", "fair", "parked", "blocked", "gather", "unique", "tag", "meta", "progress",
    "errors", "input", "cancel", "await", "edges", "letter", "dead", "ticks", "ticked", "schedules",
)  # fmt: skip
_FEWEST, _MOST, _PAGE_BYTES = 10, 250, 1_000_000


@dataclass
class Examination:
    """The faults of a partition, and the schedules without a tick, which may be paused or over."""

    faults: list[Fault] = field(default_factory=list[Fault])
    untimed: list[str] = field(default_factory=list[str])


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

    def keep(faults: Iterable[Fault]) -> None:
        for fault in faults:
            found.setdefault((fault.code, fault.member), fault)

    async def look_at(part: str) -> AsyncIterator[Any]:
        """Check a structure; its other members (`Page`)."""
        async for page in pages(queues, lambda cursor, count: calls.members(names, partition, part, cursor, count)):
            keep(page.faults)
            for other in page.others:
                yield other

    for part in PARTS:
        async for other in look_at(part):
            examination.untimed.append(foreign.text(other))
    shares = max(1, -(-await queues.patiently(lambda: queues.client.redis.hlen(names.task)) // MOST_IDS))
    for number in range(shares):
        share = Share(number, shares)
        keep(await look_through(queues, partition, share, {each async for each in look_at("task") if each in share}))
    keep((await queues.call(calls.whole(names, partition, repair=False))).faults)
    examination.faults = list(found.values())
    return examination
