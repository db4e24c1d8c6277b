"""The tasks that have failed for good lately."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskfleet.inspection import decoding
from taskfleet.inspection.reading import Reader
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.watching.snapshot import FailureLine, QueueLine
from taskfleet.watching.watched import WatchedFleet

if TYPE_CHECKING:
    from taskfleet.inspection.task_info import TaskInfo

_MOST = 30
_MOST_LOOKS = 64  # partitions that one reading asks for their last dead letters
_LETTER_BYTES = 4096
_DEAD = ("failed", "dead", "cancelled")


class _Letter(NamedTuple):
    died_ms: float
    id: str
    partition: Partition


class Failures:
    """The dead letters of a queue are read again when their number has changed, and each of them once."""

    def __init__(self, queue: WatchedFleet) -> None:
        self._queue = queue
        self._marks: dict[str, tuple[int, int]] = {}  # queue → its counts at the last look
        self._letters: dict[str, list[_Letter]] = {}
        self._rows: dict[_Letter, FailureLine | None] = {}  # None: it was gone when it was to be read

    async def read(
        self, queues: Sequence[QueueLine], partitions: Mapping[str, Sequence[Partition]]
    ) -> list[FailureLine]:
        """The failures, the latest first."""
        looks = 0
        for row in queues:
            stats = row.stats
            if stats is None or self._marks.get(row.name, (0, 0)) == (mark := (stats.failed_total, stats.dead)):
                continue
            looks += len(partitions[row.name])
            if looks > _MOST_LOOKS and looks > len(partitions[row.name]):
                break
            self._letters[row.name] = await self._last(partitions[row.name]) if stats.dead else []
            self._marks[row.name] = mark
        for gone in self._letters.keys() - partitions.keys():
            del self._letters[gone], self._marks[gone]
        latest = sorted((one for some in self._letters.values() for one in some), reverse=True)[:_MOST]
        await self._open([letter for letter in latest if letter not in self._rows])
        self._rows = {letter: self._rows[letter] for letter in latest}
        return [row for row in self._rows.values() if row is not None]

    async def _last(self, partitions: Sequence[Partition]) -> list[_Letter]:
        found: list[_Letter] = []
        for partition in partitions:
            try:
                places = await self._queue.broker.last_letters(partition, limit=_MOST)
            except CallRefusedError:  # as the line of its queue says; the others have failures, too
                continue
            found += [_Letter(place.position, place.id, partition) for place in places if place.id is not None]
        return sorted(found, reverse=True)[:_MOST]

    async def _open(self, letters: Sequence[_Letter]) -> None:
        """Read the letters themselves, each once."""
        by_partition: defaultdict[Partition, list[_Letter]] = defaultdict(list)
        for letter in letters:
            by_partition[letter.partition].append(letter)
        reader = Reader(self._queue.sessions)
        for partition, some in by_partition.items():
            ids = [letter.id for letter in some]
            try:
                infos = await reader.many(partition, ids, [-1] * len(ids), most_bytes=_LETTER_BYTES)
            except CallRefusedError:
                infos = [None] * len(ids)
            for letter, info in zip(some, infos, strict=True):
                self._rows[letter] = None if info is None or info.state not in _DEAD else _row(letter, info)


def _row(letter: _Letter, info: TaskInfo) -> FailureLine:
    at = info.ended_at or decoding.moment(letter.died_ms)
    worker, reason, error = info.worker or "", info.reason or "", info.error or ""
    return FailureLine(letter.id, info.task or "", queue_of(letter.partition), worker, reason, error, at)
