"""Pages of tasks, and the search for a text. A call looks at a bounded number of tasks, and the next goes on there."""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

from taskfleet import checks, foreign
from taskfleet.errors import BrokerConnectionError, ConfigurationError
from taskfleet.inspection.reading import PAGE_BYTES, Reader
from taskfleet.inspection.source import Source
from taskfleet.inspection.task_info import TaskInfo, TaskPage
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.status import Status
from taskfleet.protocol.task_record import Place, Structure

RESULTS: Final = "results"
MOST_LIMIT = 1000
_MOST_EXAMINED, _MOST_SEARCHED = 1000, 5000  # tasks that one call reads
_MOST_SCANS = 20  # looks through 1000 keys each, for tasks of which only a result is left
_MOST_SECONDS = 2.0  # then the call ends with what it has
_TOGETHER = 100
_SEARCHED_BYTES = 65_536  # of a payload that is searched

_STRUCTURES: dict[Status, tuple[str, ...]] = {
    "running": ("lease",),
    "ready": ("ready", "fair"),
    "delayed": ("delayed", "parked"),
    "retrying": ("delayed",),
    "blocked": ("blocked",),
    "failed": ("dead",),
    "dead": ("dead",),
    "succeeded": (RESULTS,),
    "cancelled": ("dead", RESULTS),
    "expired": (RESULTS,),
}
_ALL = ("lease", "ready", "fair", "delayed", "parked", "blocked", "dead", RESULTS)
_OF_ENDED = ("dead", RESULTS)
_ENDED = frozenset(state for state, structures in _STRUCTURES.items() if structures[-1] in _OF_ENDED)

Matches = Callable[[TaskInfo], bool]
PassedOver = Callable[[BrokerConnectionError], bool]


class _Position(NamedTuple):
    """The last task that was looked at: its partition, its structure, and its place there.

    In the results of a partition, the place is a cursor of Redis and the last id of those that it has led to.
    """

    partition: str
    structure: str
    place: Place | None

    def packed(self) -> str:
        place = None
        if self.place is not None:
            place = [str(self.place.position), base64.b64encode(self.place.member).decode()]
        text = json.dumps([self.partition, self.structure, place], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def of_cursor(cls, cursor: object, structures: Sequence[str]) -> _Position:
        try:
            assert isinstance(cursor, str)
            partition, structure, place = json.loads(base64.urlsafe_b64decode(cursor.encode()))
            foreign.partition(partition)
            if structure in structures and place is None:
                return cls(partition, structure, None)
            # The place of a result is a cursor of Redis, of up to 64 bits.
            position = int(place[0]) % 2**64 if structure == RESULTS else float(place[0])
            sound = 0 <= position <= foreign.LARGEST if structure == "ready" else not math.isnan(position)
            if structure in structures and sound:
                return cls(partition, structure, Place(position, base64.b64decode(place[1])))
        except (AssertionError, ValueError, TypeError, LookupError, AttributeError, RecursionError, binascii.Error):
            pass
        raise ConfigurationError(
            f"cursor={checks.shown(cursor)} is no cursor of this listing; pass the one of the page before it, with the "
            "same state"
        )


async def tasks(
    source: Source, queue: str | None, *, state: Status | None, task: str | None, limit: int, cursor: str | None,
    passed_over: PassedOver | None = None,
) -> TaskPage:  # fmt: skip
    """The tasks of a queue, or of all queues, in that state and of that name.

    `passed_over` gets the error of a part of a queue that cannot be read: where it says yes, the other parts follow.
    """

    def matches(info: TaskInfo) -> bool:
        return (state is None or info.state == state) and (task is None or info.task == task)

    listing = _Listing(source, matches, limit, filtered=state is not None or task is not None, passed_over=passed_over)
    return await listing.page(queue, state, cursor, _MOST_EXAMINED)


async def search(
    source: Source, text: str, queue: str | None, *, state: Status | None, task: str | None, limit: int,
    cursor: str | None,
) -> TaskPage:  # fmt: skip
    """The tasks that have the text in their id, name, arguments or errors."""

    def matches(info: TaskInfo) -> bool:
        return has_text(info, text)

    return await matching(source, queue, matches, state=state, task=task, limit=limit, cursor=cursor)


async def matching(
    source: Source, queue: str | None, matches: Matches, *, state: Status | None, task: str | None, limit: int,
    cursor: str | None, passed_over: PassedOver | None = None,
) -> TaskPage:  # fmt: skip
    """The tasks for which `matches` says so. As `search`, it looks at several thousand of them."""

    def wanted(info: TaskInfo) -> bool:
        return (state is None or info.state == state) and (task is None or info.task == task) and matches(info)

    listing = _Listing(source, wanted, limit, filtered=True, most_bytes=_SEARCHED_BYTES, passed_over=passed_over)
    return await listing.page(queue, state, cursor, _MOST_SEARCHED)


def has_text(info: TaskInfo, text: str) -> bool:
    """Whether it has the text in its name, arguments or errors, whatever the case, or its id begins with it."""
    wanted = text.casefold()
    return any(wanted in part.casefold() for part in _texts(info)) or info.id.startswith(text)


def _texts(info: TaskInfo) -> Iterator[str]:
    yield info.task or ""
    if info.args:
        yield from map(_text, info.args)
    if info.kwargs:
        for name, value in info.kwargs.items():
            yield name
            yield _text(value)
    for error in info.errors:
        yield error.error
        yield error.traceback
    yield info.error or ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except Exception:  # of a value that a plain form may hold, such as a set of mixed types
        return repr(value)


class _Listing:
    """One call: it goes on from a cursor until the page is full, or enough has been looked at."""

    def __init__(
        self, source: Source, matches: Matches, limit: int, *, filtered: bool, most_bytes: int = PAGE_BYTES,
        passed_over: PassedOver | None = None,
    ) -> None:  # fmt: skip
        self._broker = source.broker
        self._reader = Reader(source)
        self._matches = matches
        self._limit = limit
        self._filtered = filtered
        self._most_bytes = most_bytes
        self._found: dict[str, TaskInfo] = {}
        self._examined = 0
        self._scans = 0
        self._passed_over = passed_over

    async def page(self, queue: str | None, state: Status | None, cursor: str | None, most: int) -> TaskPage:
        structures = _ALL if state is None else _STRUCTURES[state]
        position = None if cursor is None else _Position.of_cursor(cursor, structures)
        steps = list(_steps(await self._broker.partitions(queue), structures, position))
        until, at = time.monotonic() + _MOST_SECONDS, 0
        while at < len(steps) and len(self._found) < self._limit:
            if self._scans >= _MOST_SCANS or self._examined >= most or time.monotonic() > until:
                break
            try:
                following = await self._look(steps[at])
            except BrokerConnectionError as error:
                if self._passed_over is None or not self._passed_over(error):
                    raise
                following = None
            if following is None:
                at += 1
            else:
                steps[at] = following
        rest = steps[at].packed() if at < len(steps) else None
        return TaskPage(tuple(self._found.values()), rest, self._examined)

    async def _look(self, step: _Position) -> _Position | None:
        """Look at the next tasks of a structure; where the next look goes on, `None` at its end."""
        if step.structure == RESULTS:
            return await self._look_at_results(step)
        structure = cast("Structure", step.structure)
        most = _TOGETHER if self._filtered else min(_TOGETHER, self._limit - len(self._found))
        places = await self._broker.places(Partition(step.partition), structure, step.place, limit=most)
        last = await self._take(step, places)
        return last if last.place is not step.place and (len(places) == most or last.place is not places[-1]) else None

    async def _look_at_results(self, step: _Position) -> _Position | None:
        self._scans += 1
        cursor, last = (int(step.place.position), step.place.member) if step.place is not None else (0, b"")
        found, following = await self._broker.results(Partition(step.partition), cursor)
        members = sorted({task_id.encode("utf-8", "replace") for task_id in found})
        places = [Place(cursor, member) for member in members if member > last]
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]
            reached = await self._take(step, some)
            if len(self._found) >= self._limit and reached.place is not places[-1]:
                return reached
        return step._replace(place=Place(following, b"")) if following else None

    async def _take(self, step: _Position, places: Sequence[Place]) -> _Position:
        """Keep the tasks that match, until the page is full; the place of the last one that was looked at."""
        known = [(place, task_id) for place in places if (task_id := place.id) is not None]
        ahead = [int(place.position) if step.structure == "ready" else -1 for place, _ in known]
        task_ids = [task_id for _, task_id in known]
        infos = await self._reader.many(Partition(step.partition), task_ids, ahead, most_bytes=self._most_bytes)
        for (place, task_id), info in zip(known, infos, strict=True):
            self._examined += 1
            # One that has ended since is listed later, or in its turn: a cancelled task leaves its id in the line.
            is_here = info is not None and (step.structure in _OF_ENDED or info.state not in _ENDED)
            if info is not None and is_here and task_id not in self._found and self._matches(info):
                self._found[task_id] = info
                if len(self._found) >= self._limit:
                    return step._replace(place=place)
        return step._replace(place=places[-1]) if places else step


def _steps(
    partitions: Sequence[Partition], structures: Sequence[str], position: _Position | None
) -> Iterator[_Position]:
    """All structures of all partitions, from that position on."""
    for partition in partitions:
        if position is not None and partition < position.partition:
            continue
        here = position is not None and partition == position.partition
        first = structures.index(position.structure) if here and position is not None else 0
        for structure in structures[first:]:
            place = position.place if here and position is not None and structure == position.structure else None
            yield _Position(partition, structure, place)
