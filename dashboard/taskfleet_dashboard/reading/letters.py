"""Dead letters: pages of them, filtered, of each queue the latest first."""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from taskfleet import foreign
from taskfleet.inspection import listing
from taskfleet.inspection.reading import Reader
from taskfleet.inspection.task_info import TaskInfo
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.task_record import Place
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.dead import DeadMatch, DeadPageAnswer, DeadRow
from taskfleet_dashboard.reading.problems import Problems
from taskfleet_dashboard.reading.tasks import TaskText
from taskfleet_dashboard.refusals import Refused

_TOGETHER = 100
_MOST_EXAMINED = 2000  # letters that one call reads
_MOST_SECONDS = 2.0
_LETTER_BYTES = 16_384


class ListedLetter(NamedTuple):
    """A dead letter that was looked at: `info` is missing when it was gone."""

    partition: Partition
    place: Place
    id: str
    info: TaskInfo | None


class LetterReader:
    """Reads dead letters."""

    def __init__(self, queue: TaskQueue, tasks: TaskText) -> None:
        self._queue = queue
        self._tasks = tasks

    async def partitions(self, broker: RedisBroker, match: DeadMatch) -> list[Partition]:
        """The partitions in which letters may be."""
        return list(await broker.partitions(match.queue))

    async def walk(
        self, broker: RedisBroker, partition: Partition, match: DeadMatch, after: Place | None, *, until_ms: float
    ) -> AsyncIterator[list[ListedLetter]]:
        """The letters of a partition by time, the latest first, some at a time."""
        since = -math.inf if match.since is None else milliseconds(match.since)
        until = until_ms if match.until is None else min(until_ms, milliseconds(match.until))
        reader = Reader(self._queue.sessions)
        while True:
            places = await broker.letters_before(partition, after, until_ms=until, since_ms=since, limit=_TOGETHER)
            if not places:
                return
            known = [place for place in places if place.id is not None]
            ids = [str(place.id) for place in known]
            infos = await reader.many(partition, ids, [-1] * len(ids), most_bytes=_LETTER_BYTES) if ids else []
            yield [
                ListedLetter(partition, place, task_id, info)
                for place, task_id, info in zip(known, ids, infos, strict=True)
            ]
            after = places[-1]

    def matches(self, match: DeadMatch, info: TaskInfo | None) -> bool:
        """Whether everything applies that is given. What is masked is not searched."""
        if info is None or info.state not in ("failed", "dead", "cancelled"):
            return False
        if match.task is not None and info.task != match.task:
            return False
        if match.reason is not None and info.reason != match.reason:
            return False
        return not match.q or listing.has_text(self._tasks.masked(info)[0], match.q)

    async def page(self, broker: RedisBroker, match: DeadMatch, cursor: str | None, limit: int) -> DeadPageAnswer:
        """A page. Errors: `Refused` for a cursor that is none."""
        partitions = await self.partitions(broker, match)
        rows: list[DeadRow] = []
        examined, until = 0, time.monotonic() + _MOST_SECONDS
        first, after = _position(cursor, partitions)
        problems = Problems()

        def answer(following: str | None) -> DeadPageAnswer:
            return DeadPageAnswer(items=rows, cursor=following, examined=examined, problems=problems.lines())

        for at in range(first, len(partitions)):
            partition, last = partitions[at], after
            with problems.passed_over():
                async for letters in self.walk(broker, partition, match, after, until_ms=math.inf):
                    for letter in letters:
                        examined, last = examined + 1, letter.place
                        if self.matches(match, letter.info):
                            assert letter.info is not None
                            rows.append(self.row(letter.info, letter.place))
                        if len(rows) >= limit:
                            break
                    if len(rows) >= limit or examined >= _MOST_EXAMINED or time.monotonic() > until:
                        return answer(_cursor(partition, last))
            after = None
        return answer(None)

    def row(self, info: TaskInfo, place: Place) -> DeadRow:
        """One row."""
        shown, _ = self._tasks.masked(info)
        return DeadRow(
            id=text.whole(info.id),
            task=text.name(info.task),
            queue=info.queue,
            reason=text.line(shown.reason or ""),
            error=text.line(shown.error or ""),
            attempts=info.attempt or 0,
            deliveries=info.deliveries or 0,
            enqueued_at=info.enqueued_at,
            died_at=info.ended_at or moment(place.position),
        )


def moment(ms: float) -> datetime | None:
    """A time of Redis; `None` for one that no queue can have written."""
    return datetime.fromtimestamp(ms / 1000, UTC) if 0 < ms <= foreign.LAST_MS else None


def milliseconds(at: datetime) -> float:
    """As Redis has it. A time without a zone is one of UTC."""
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000


def _cursor(partition: Partition, place: Place | None) -> str:
    at = None if place is None else [place.position, base64.b64encode(place.member).decode()]
    return base64.urlsafe_b64encode(json.dumps([partition, at]).encode()).decode()


def _position(cursor: str | None, partitions: Sequence[Partition]) -> tuple[int, Place | None]:
    """Where a page goes on. A partition that is gone by now is passed over."""
    if cursor is None:
        return 0, None
    try:
        partition, at = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        queue_of(partition)
        position = None if at is None else Place(float(at[0]), base64.b64decode(at[1]))
        if position is not None and math.isnan(position.position):
            raise ValueError("no time")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, binascii.Error):
        raise Refused(422, "cursor is none of this listing; pass the one of the page before it") from None
    for number, each in enumerate(partitions):
        if each == partition:
            return number, position
        if each > partition:
            return number, None
    return len(partitions), None
