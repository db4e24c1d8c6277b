"""The fleet: its queues and workers as they were read last, for all who look."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from taskfleet import foreign, showing
from taskfleet.queue import TaskQueue
from taskfleet.watching.reading import FleetReading
from taskfleet.watching.snapshot import FailureLine, QueueLine, Snapshot, WorkerLine
from taskfleet_dashboard.answers.fleet import RunRow, WorkerRow, WorkersAnswer
from taskfleet_dashboard.answers.overview import FailureRow, QueueRows, Totals, WorkerTotals
from taskfleet_dashboard.answers.queues import SPARK_POINTS, QueueRow, QueueState
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.text import line, whole

_FRESH_SECONDS = 1.0  # readings are shared by all who look within this time, or for longer when they cost much
_FRESH_PAUSES = 2.0  # …: so many times the pause that a reading imposes on the next one, of whatever topic
_MOST_SHOWN = 200  # queues that are read before the others, since somebody looks at them
_SHOWN_SECONDS = 60.0
_CLAIMING = ("starting", "running")
_DRAINS_AT_MOST = 30 * 86_400.0  # a later end is none that anybody waits for
_RUNS = 64

Sparks = dict[str, list[int | None]]


class FleetView:
    """One reading for all: the overview, the rows of queues, and the workers."""

    def __init__(self, queue: TaskQueue, pace: ReadingPace, masks: Masks) -> None:
        self._queue = queue
        self._reading = FleetReading(queue)
        self._pace = pace
        self._masks = masks
        self._one = asyncio.Lock()
        self._last: Snapshot | None = None
        self._last_at = -1e9
        self._fresh_seconds = _FRESH_SECONDS
        self._shown: dict[str, float] = {}

    def show(self, names: Iterable[str]) -> None:
        """Somebody looks at these queues: they are read before the others for a while."""
        now = time.monotonic()
        for name in names:
            self._shown.pop(name, None)
            self._shown[name] = now
        while self._shown and (
            len(self._shown) > _MOST_SHOWN or now - next(iter(self._shown.values())) > _SHOWN_SECONDS
        ):
            del self._shown[next(iter(self._shown))]

    async def snapshot(self, *, paced: bool) -> Snapshot:
        """The latest reading, or a new one. `paced`: the caller has its turn with Redis already."""
        last = self._fresh()
        if last is not None:
            return last
        if paced:
            return await self._new()
        if self._last is not None and not self._pace.is_free():
            return self._last  # the pollers use what there is to use; a page sees what they have read
        # A turn first, and then the reading: in the other order, two that wait for each other would wait for ever.
        async with self._pace.reading():
            return await self._new()

    def _fresh(self) -> Snapshot | None:
        return self._last if time.monotonic() - self._last_at < self._fresh_seconds else None

    async def _new(self) -> Snapshot:
        async with self._one:
            found = self._fresh()
            if found is None:
                before = self._pace.commands_now
                found = self._last = await self._read()
                # Otherwise the topics of a fleet with many queues would each make a reading of their own, and each come
                # so much later.
                pause = (self._pace.commands_now - before) / self._pace.most_per_second
                self._fresh_seconds = max(_FRESH_SECONDS, _FRESH_PAUSES * pause)
                self._last_at = time.monotonic()
            return found

    async def _read(self) -> Snapshot:
        return await self._reading.snapshot(list(reversed(self._shown)))

    async def line(self, name: str, *, paced: bool) -> QueueLine | None:
        """The line of one queue, as it is now."""
        self.show([name])
        found = _named(await self.snapshot(paced=paced), name)
        if not _is_unread(found):
            return found
        async with contextlib.nullcontext() if paced else self._pace.reading():
            last = _named(self._last, name)
            if _is_unread(last):  # nobody has read it while this one waited for its turn
                self._last_at = -1e9
                last = _named(await self._new(), name)
            return last

    def failures(self, snapshot: Snapshot) -> list[FailureRow]:
        """The last failures."""
        return [self._failure(each) for each in snapshot.failures]

    def _failure(self, each: FailureLine) -> FailureRow:
        return FailureRow(
            id=whole(each.id),
            task=line(each.task),
            queue=each.queue,
            reason=line(each.reason),
            error=line(self._masks.text(each.error)),
            at=each.at,
        )

    async def workers(self, *, paced: bool) -> WorkersAnswer:
        """The workers, and what they run."""
        snapshot = await self.snapshot(paced=paced)
        runs: dict[str, list[RunRow]] = {}
        for run in snapshot.runs:
            row = RunRow(id=whole(run.id), task=line(run.task), queue=run.queue, seconds=round(run.seconds, 3))
            runs.setdefault(run.worker, []).append(row)
        rows = [_worker(each, runs.get(each.info.worker_id, [])) for each in snapshot.workers]
        return WorkersAnswer(items=sorted(rows, key=lambda row: row.id), cursor=None, at=snapshot.at)


def _named(snapshot: Snapshot | None, name: str) -> QueueLine | None:
    return next((row for row in (snapshot.queues if snapshot is not None else ()) if row.name == name), None)


def _is_unread(line: QueueLine | None) -> bool:
    return line is not None and line.stats is None and not line.problem


def _worker(row: WorkerLine, runs: list[RunRow]) -> WorkerRow:
    info = row.info
    return WorkerRow(
        id=whole(info.worker_id),
        name=whole(info.name),
        host=line(info.host),
        pid=info.pid,
        version=line(info.version),
        state=line(info.state),
        queues=[line(name) for name in info.queues],
        slots=info.slots,
        busy=info.busy,
        stuck=info.stuck,
        started_at=datetime.fromtimestamp(info.started_ms / 1000, UTC) if info.started_ms else None,
        heartbeat_age_seconds=round(row.beat_age_seconds, 3),
        clock_skew_seconds=round(info.clock_skew_seconds, 3),
        oldest_run_seconds=row.oldest_run_seconds,
        runs=sorted(runs, key=lambda run: -run.seconds)[:_RUNS],
    )


def queue_row(line_: QueueLine, spark: Sequence[int | None] | None = None) -> QueueRow:
    """The row of a queue."""
    stats = line_.stats
    came, ended = line_.enqueued_per_second, line_.finished_per_second
    ready = stats.ready if stats is not None else 0
    return QueueRow(
        name=line_.name,
        state=state_of(line_),
        problem=line(line_.problem),
        ready=ready,
        running=stats.in_flight if stats is not None else 0,
        delayed=stats.delayed if stats is not None else 0,
        blocked=stats.blocked if stats is not None else 0,
        parked=stats.parked if stats is not None else 0,
        dead=stats.dead if stats is not None else 0,
        oldest_age_seconds=stats.oldest_age_seconds if stats is not None else 0.0,
        in_per_second=_rounded(came),
        out_per_second=_rounded(ended),
        failed_per_second=_rounded(line_.failed_per_second),
        drains_in_seconds=drains_in(ready, came, ended),
        workers=line_.takers,
        limits=line_.limits,
        spark=list(spark) if spark is not None and len(spark) == SPARK_POINTS else [None] * SPARK_POINTS,
    )


def state_of(row: QueueLine) -> QueueState:
    """What keeps its tasks from starting."""
    told = row.state
    if told.startswith("limit"):
        return "limited"
    return "" if told == "" else "paused" if told == "paused" else "unserved" if told == "unserved" else "unreadable"


def drains_in(ready: int, came: float | None, ended: float | None) -> float | None:
    """When nothing is ready any more if tasks come and end as in the last seconds; `None` for never, or not known."""
    if not ready:
        return 0.0
    if came is None or ended is None or ended <= came:
        return None
    seconds = ready / (ended - came)
    return round(seconds, 1) if seconds <= _DRAINS_AT_MOST else None


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 3)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def totals(snapshot: Snapshot) -> Totals:
    """The sums over all queues that were read."""
    stats = snapshot.stats
    ready = sum(each.ready for each in stats)
    came = _sum(row.enqueued_per_second for row in snapshot.queues)
    ended = _sum(row.finished_per_second for row in snapshot.queues)
    return Totals(
        ready=min(foreign.LARGEST, ready),
        running=sum(each.in_flight for each in stats),
        delayed=sum(each.delayed for each in stats),
        blocked=sum(each.blocked for each in stats),
        dead=sum(each.dead for each in stats),
        in_per_second=_rounded(came),
        out_per_second=_rounded(ended),
        failed_per_second=_rounded(_sum(row.failed_per_second for row in snapshot.queues)),
        drains_in_seconds=drains_in(ready, came, ended),
    )


def worker_totals(snapshot: Snapshot) -> WorkerTotals:
    """The workers, by what they do."""
    infos = [each.info for each in snapshot.workers]
    claiming = [each for each in infos if each.state in _CLAIMING]
    return WorkerTotals(
        total=len(infos),
        busy=sum(1 for each in claiming if each.busy),
        idle=sum(1 for each in claiming if not each.busy),
        cordoned=sum(1 for each in infos if each.state in ("cordoned", "drained")),
        draining=sum(1 for each in infos if each.state == "draining"),
        slots=sum(each.slots for each in claiming),
        running=sum(each.busy for each in infos),
    )


def _stat(figure: str) -> Callable[[QueueLine], float]:
    return lambda row: getattr(row.stats, figure) if row.stats is not None else -1.0


_ORDERS: dict[str, Callable[[QueueLine], float]] = {
    "ready": _stat("ready"),
    "running": _stat("in_flight"),
    "delayed": _stat("delayed"),
    "blocked": _stat("blocked"),
    "dead": _stat("dead"),
    "oldest": _stat("oldest_age_seconds"),
    "in": lambda row: row.enqueued_per_second or 0.0,
    "out": lambda row: row.finished_per_second or 0.0,
    "failed": lambda row: row.failed_per_second or 0.0,
    "drains": lambda row: _drains(row),
}


def _drains(row: QueueLine) -> float:
    found = drains_in(row.stats.ready if row.stats else 0, row.enqueued_per_second, row.finished_per_second)
    return float("inf") if found is None else found


def chosen(snapshot: Snapshot, sort: str, search: str, offset: int, limit: int) -> tuple[list[QueueLine], int]:
    """The queues of a page, and how many match."""
    wanted = search.casefold()
    rows = [row for row in snapshot.queues if wanted in row.name.casefold()]
    rows.sort(key=lambda row: row.name)
    if sort in _ORDERS:
        rows.sort(key=_ORDERS[sort], reverse=True)
    elif sort == "state":
        rows.sort(key=lambda row: (not row.state, row.state))
    return rows[offset : offset + limit], len(rows)


def rows_of(lines: Sequence[QueueLine], sparks: Sparks, *, total: int, offset: int) -> QueueRows:
    """The rows of a page."""
    return QueueRows(items=[queue_row(each, sparks.get(each.name)) for each in lines], total=total, offset=offset)


def shown_name(name: str) -> str:
    """A name in a sentence."""
    return showing.shown(repr(name), 120)
