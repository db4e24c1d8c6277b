"""Looks through the ready list of a partition in short calls, however long it is and however fast it moves.

Ids leave the list at its head, and come at both ends. So the places that were looked at stay together, and a look that
has come to the head knows all that is in the list: an id that it has not seen is not there, unless it has come since.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import cast

import msgpack

from taskfleet.protocol.partitions import Partition
from taskfleet.redis.doctor import calls
from taskfleet.redis.doctor.calls import Anchor, LinePage, Twice
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.queue_calls import QueueCalls

MOST_IDS = 500_000  # that are kept in memory: of more, a share is looked for at a time
_PAGE = 250
_TOGETHER = 250  # ids that one call looks for, at most
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Share:
    """One of `count` shares of all ids."""

    number: int
    count: int

    def __contains__(self, task_id: bytes) -> bool:
        return self.count == 1 or zlib.crc32(task_id) % self.count == self.number


@dataclass
class _Pass:
    """One look through the list. Places are counted from the tail at its first page, those before it from -1 down."""

    share: Share
    anchor: Anchor = field(default_factory=Anchor)
    come: int = 0
    seen: dict[bytes, int] = field(default_factory=dict[bytes, int])
    twice: list[tuple[bytes, int, int]] = field(default_factory=list[tuple[bytes, int, int]])
    stamps: set[bytes] = field(default_factory=set[bytes])
    gone: int = 0

    def add(self, page: LinePage) -> None:
        covered = page.anchor.covered
        if self.anchor.covered and covered == len(page.ids):  # all that was looked at has left
            self.come, self.seen, self.twice = 0, {}, []
        elif self.anchor.covered:
            self.come += len(page.ids) - page.paged
        for n, task_id in enumerate(page.ids):
            if task_id not in self.share:
                continue
            behind = covered - 1 - n if n < page.paged else len(page.ids) - 1 - n
            place = self.come - behind
            if task_id in self.seen:
                self.twice.append((task_id, self.seen[task_id], place))
            self.seen[task_id] = place
        self.anchor = page.anchor
        self.stamps.add(page.stamp)
        self.gone += page.gone

    def pairs(self) -> list[Twice]:
        """The ids that were seen twice, with their places before the anchor."""
        return [(task_id, self.come - one, self.come - other) for task_id, one, other in self.twice]


async def look_through(queues: QueueCalls, partition: Partition, share: Share, unplaced: set[bytes]) -> list[Fault]:
    """The faults of the ready list, and which of `unplaced`, tasks that are in no other structure, are not in it.

    `line-moves` when that cannot be told, since more tasks come between two calls than one may look through.
    """
    before: list[Fault] | None = None
    seen: list[Fault] = []  # in looks that did not come to their end: each was true in one call
    for _ in range(_TRIES):
        faults, whole = await _look_through(queues, partition, share, unplaced)
        if not whole:  # thousands of tasks have come between two calls
            seen += [fault for fault in faults if fault.code != "task-lost"]
            continue
        if not any(fault.code == "task-lost" for fault in faults):
            return faults
        # In a long list a hand that takes out ids while it is looked through hides others: only a second look tells.
        if before is not None:
            return [fault for fault in faults if fault.code != "task-lost" or fault in before]
        before, unplaced = faults, {fault.member for fault in faults if fault.code == "task-lost"}
    return [*seen, Fault("line-moves", partition, "ready", partition.encode())]


async def _look_through(
    queues: QueueCalls, partition: Partition, share: Share, unplaced: set[bytes]
) -> tuple[list[Fault], bool]:
    """The faults of one look, and whether it came to its end."""
    names, look, faults = queues.keys_of(partition), _Pass(share), list[Fault]()
    while True:
        page = await queues.call(calls.line(names, partition, look.anchor, _PAGE))
        if page is None:
            return faults, False
        look.add(page)
        faults += page.faults
        unplaced.difference_update(page.ids)
        if page.left == 0:
            break
    if len(look.stamps) == 1 and look.gone != page.removed and look.anchor.covered > _PAGE:
        detail = cast("bytes", msgpack.packb([page.stamp, look.gone], use_bin_type=False))
        evidence = f"{page.removed} counted, {look.gone} there"
        faults.append(Fault("removed-count", partition, "ready", b"removed", evidence, detail))
    ids, pairs = list(unplaced), look.pairs()
    while ids or pairs:
        lost = await queues.call(calls.lost(names, partition, ids[:_TOGETHER], pairs[:_TOGETHER], look.anchor))
        if lost is None:
            return faults, False
        faults += lost.faults
        ids, pairs = ids[lost.ids :], pairs[lost.pairs :]
    return faults, True
