"""The four sections of the view: their columns, and by what they can be sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from taskfleet.cli import listing
from taskfleet.protocol.stats import QueueStats
from taskfleet.watching.snapshot import FailureLine, QueueLine, RunLine, Snapshot, WorkerLine

T = TypeVar("T")

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Shown(Generic[T]):
    """One column of the view.

    `order` sorts by it, largest first if it `falls`. Where room is short, columns of a high
    `rank` are left out first, and those with rank 0 never. A column that `stretches` takes the room that is left, and
    `least` at least.
    """

    head: str
    cell: Callable[[T], str]
    order: Callable[[T], Any]
    least: int = 4
    rank: int = 0
    right: bool = False
    falls: bool = False
    stretches: bool = False
    style: Callable[[T], str] = lambda _row: ""


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """A part of the view: its rows, what tells them apart, and its columns. `none` stands in place of no rows."""

    name: str
    rows: Callable[[Snapshot], Sequence[T]]
    key: Callable[[T], str]
    columns: Sequence[Shown[T]]
    none: str
    first_order: Callable[[T], Any]  # before a column is chosen


def _stat(
    head: str, figure: Callable[[QueueStats], float], *, least: int, rank: int, style: str = ""
) -> Shown[QueueLine]:
    """A column of one figure."""
    return Shown(
        head,
        lambda row: number(figure(row.stats)) if row.stats is not None else "-",
        lambda row: figure(row.stats) if row.stats is not None else _NEVER,
        least=least,
        rank=rank,
        right=True,
        falls=True,
        style=lambda row: style if row.stats is not None and figure(row.stats) else "",
    )


def _rate(head: str, figure: Callable[[QueueLine], float | None]) -> Shown[QueueLine]:
    """A column of a number of tasks in a second."""
    return Shown(
        head,
        lambda row: rate(figure(row)),
        lambda row: _of_rate(figure(row)),
        least=5,
        rank=3,
        right=True,
        falls=True,
    )


def number(value: float) -> str:
    """A count in at most six columns: `99999`, `123k`, `4.5M`."""
    if value < 100_000:
        return f"{value:.0f}"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value / 1000:.0f}k"


def rate(value: float | None) -> str:
    """Tasks per second: `0`, `0.25`, `12.3`, `4567`."""
    if value is None:
        return "-"
    if value >= 100 or value == 0:
        return number(value)
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _clock(time: datetime | None) -> str:
    return f"{time:%T}" if time is not None else "-"


def _of_rate(value: float | None) -> float:
    return _NEVER if value is None else value


_STATES = {"unreadable": "red", "unserved": "red", "paused": "yellow"}
_PRIORITY: Shown[QueueLine] = Shown(
    "prio",
    lambda row: str(row.options.priority),
    lambda row: row.options.priority,
    least=4,
    rank=7,
    right=True,
    falls=True,
)

QUEUES: Section[QueueLine] = Section(
    "queues",
    lambda snapshot: snapshot.queues,
    lambda row: row.name,
    [
        Shown("queue", lambda row: row.name, lambda row: row.name, least=12, stretches=True),
        _PRIORITY,
        _stat("ready", lambda stats: stats.ready, least=6, rank=0),
        _stat("running", lambda stats: stats.in_flight, least=7, rank=2),
        _stat("delayed", lambda stats: stats.delayed, least=7, rank=5),
        _stat("blocked", lambda stats: stats.blocked, least=7, rank=9),
        _stat("dead", lambda stats: stats.dead, least=5, rank=4, style="red"),
        _rate("in/s", lambda row: row.enqueued_per_second),
        _rate("out/s", lambda row: row.finished_per_second),
        Shown(
            "oldest",
            lambda row: listing.age(row.stats.oldest_age_seconds) if row.stats is not None and row.stats.ready else "-",
            lambda row: row.stats.oldest_age_seconds if row.stats is not None else _NEVER,
            least=6,
            rank=6,
            right=True,
            falls=True,
        ),
        Shown("limits", lambda row: row.limits, lambda row: row.limits, least=9, rank=10, falls=True),
        Shown(
            "state",
            lambda row: row.state,
            lambda row: row.state,
            least=8,
            rank=1,
            falls=True,
            style=lambda row: _STATES.get(row.state, ""),
        ),
    ],
    "no queue has had a task yet",
    lambda row: (-row.options.priority, -(row.stats.ready if row.stats is not None else 0), row.name),
)

_LATE_SECONDS = 15.0  # a heartbeat that is older is coloured

WORKERS: Section[WorkerLine] = Section(
    "workers",
    lambda snapshot: snapshot.workers,
    lambda row: row.info.worker_id,
    [
        Shown("worker", lambda row: row.info.worker_id, lambda row: row.info.worker_id, least=12, stretches=True),
        Shown(
            "queues",
            lambda row: ",".join(row.info.queues),
            lambda row: row.info.queues,
            least=8,
            rank=4,
            stretches=True,
        ),
        Shown(
            "busy",
            lambda row: f"{row.info.busy}/{row.info.slots}",
            lambda row: row.info.busy,
            least=7,
            right=True,
            falls=True,
        ),
        Shown(
            "oldest",
            lambda row: listing.age(row.oldest_run_seconds),
            lambda row: row.oldest_run_seconds or 0.0,
            least=6,
            rank=3,
            right=True,
            falls=True,
        ),
        Shown(
            "beat",
            lambda row: listing.age(row.beat_age_seconds),
            lambda row: row.beat_age_seconds,
            least=5,
            rank=2,
            right=True,
            falls=True,
            style=lambda row: "yellow" if row.beat_age_seconds > _LATE_SECONDS else "",
        ),
        Shown("version", lambda row: row.info.version or "-", lambda row: row.info.version, least=7, rank=5),
        Shown(
            "state",
            lambda row: row.info.state,
            lambda row: row.info.state,
            least=8,
            rank=1,
            style=lambda row: "" if row.info.state == "running" else "yellow",
        ),
    ],
    "no worker lives; start one with: taskfleet worker APP",
    lambda row: row.info.worker_id,
)

RUNS: Section[RunLine] = Section(
    "running",
    lambda snapshot: snapshot.runs,
    lambda row: row.id,
    [
        Shown("runs longest", lambda row: row.task or "-", lambda row: row.task, least=12, stretches=True),
        Shown("for", lambda row: listing.age(row.seconds), lambda row: row.seconds, least=6, right=True, falls=True),
        Shown("id", lambda row: row.id, lambda row: row.id, least=17, rank=1),
        Shown("queue", lambda row: row.queue or "-", lambda row: row.queue, least=8, rank=3, stretches=True),
        Shown("worker", lambda row: row.worker, lambda row: row.worker, least=10, rank=2, stretches=True),
    ],
    "nothing has run for longer than a heartbeat",
    lambda row: -row.seconds,
)

FAILURES: Section[FailureLine] = Section(
    "failures",
    lambda snapshot: snapshot.failures,
    lambda row: row.id,
    [
        Shown("failed", lambda row: row.task or "-", lambda row: row.task, least=12, stretches=True),
        Shown(
            "at (UTC)",
            lambda row: _clock(row.at),
            lambda row: row.at.timestamp() if row.at else 0,
            least=8,
            rank=1,
            falls=True,
        ),
        Shown("id", lambda row: row.id, lambda row: row.id, least=17, rank=3),
        Shown("queue", lambda row: row.queue, lambda row: row.queue, least=8, rank=4, stretches=True),
        Shown(
            "error",
            lambda row: _why(row),
            lambda row: row.error,
            least=12,
            rank=0,
            stretches=True,
            style=lambda _row: "red",
        ),
    ],
    "no task has failed for good",
    lambda row: -(row.at.timestamp() if row.at else 0),
)

SECTIONS: Sequence[Section[Any]] = (QUEUES, WORKERS, RUNS, FAILURES)


def _why(row: FailureLine) -> str:
    return row.error if row.reason in ("", "exception") else f"{row.reason}: {row.error}"
