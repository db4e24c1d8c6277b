"""The figures of the fleet: sums, ends of backlogs and orders, from a reading of known lines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet import QueueOptions
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.watching.snapshot import QueueLine, Snapshot, WorkerLine
from taskfleet_dashboard.reading import fleet


def stats(**figures: Any) -> QueueStats:
    names = ("ready", "in_flight", "delayed", "due", "dead", "oldest_age_seconds", "enqueued_total", "finished_total",
             "failed_total", "busy_ms_total")  # fmt: skip
    return QueueStats(**{**dict.fromkeys(names, 0), "paused": False, **figures})


def line(name: str, came: float | None = None, ended: float | None = None, **more: Any) -> QueueLine:
    failed, takers = more.pop("failed", None), more.pop("takers", 1)
    read = None if more.pop("unread", False) else stats(**more)
    return QueueLine(
        name, read, QueueOptions(name), takers, enqueued_per_second=came, finished_per_second=ended,
        failed_per_second=failed,
    )  # fmt: skip


def worker(state: str, busy: int) -> WorkerLine:
    return WorkerLine(WorkerInfo(f"w/{state}", "w", 1, 10, busy, ("default",), state, 0.0, 0.0, 1, "1"), 0.0)


def snapshot(*queues: QueueLine, workers: tuple[WorkerLine, ...] = ()) -> Snapshot:
    return Snapshot(datetime.now(UTC), queues, workers, (), ())


@pytest.mark.parametrize(
    ("ready", "came", "ended", "seconds"),
    [
        (0, None, None, 0.0),
        (100, 2.0, 12.0, 10.0),
        (100, 0.0, 12.0, 8.3),
        (100, 12.0, 12.0, None),
        (100, 13.0, 12.0, None),
        (100, None, 12.0, None),
        (100, 2.0, None, None),
        (2_592_000, 0.0, 1.0, 2_592_000.0),
        (2_592_001, 0.0, 1.0, None),  # an end that nobody waits for
    ],
)
def test_a_backlog_ends_at_the_rates_of_now_or_never(
    ready: int, came: float | None, ended: float | None, seconds: float | None
) -> None:
    assert fleet.drains_in(ready, came, ended) == seconds


def test_the_sums_are_those_of_what_is_known() -> None:
    found = fleet.totals(
        snapshot(
            line("a", 1.0, 3.0, failed=0.5, ready=10, in_flight=1, delayed=2, blocked=3, dead=4),
            line("b", 2.0, 4.0, ready=10, in_flight=10, delayed=20, blocked=30, dead=40),
            line("c", unread=True),
        )
    )
    assert found.model_dump() == {
        "ready": 20, "running": 11, "delayed": 22, "blocked": 33, "dead": 44, "in_per_second": 3.0,
        "out_per_second": 7.0, "failed_per_second": 0.5, "drains_in_seconds": 5.0,
    }  # fmt: skip
    nothing = fleet.totals(snapshot(line("a", ready=1)))
    assert (nothing.in_per_second, nothing.failed_per_second, nothing.drains_in_seconds) == (None, None, None)


def test_workers_are_counted_by_what_they_do() -> None:
    states = [("starting", 0), ("running", 0), ("running", 3), ("draining", 4), ("cordoned", 5), ("drained", 0)]
    found = fleet.worker_totals(snapshot(workers=tuple(worker(*each) for each in states)))
    assert found.model_dump() == {
        "total": 6, "busy": 1, "idle": 2, "cordoned": 2, "draining": 1, "slots": 30, "running": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("name", "a"), ("ready", "b"), ("running", "c"), ("delayed", "d"), ("blocked", "e"), ("dead", "f"),
        ("oldest", "g"), ("in", "h"), ("out", "i"), ("failed", "j"), ("drains", "k"), ("state", "l"),
    ],
)  # fmt: skip
def test_queues_have_the_largest_first(sort: str, first: str) -> None:
    lines = [
        line("a", unread=True), line("b", 0.0, 9.0, ready=9), line("c", in_flight=9), line("d", delayed=9),
        line("e", blocked=9), line("f", dead=9), line("g", oldest_age_seconds=9.0), line("h", 8.0, 8.0),
        line("i", 0.0, 9.5), line("j", failed=9.0), line("k", 1.0, 1.0, ready=1), line("l", paused=True),
    ]  # fmt: skip
    chosen, total = fleet.chosen(snapshot(*reversed(lines)), sort, "", 0, 1)
    assert ([each.name for each in chosen], total) == ([first], 12)


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (line("a", ready=1), ""),
        (line("a", ready=1, takers=0), "unserved"),
        (line("a", takers=0), ""),
        (line("a", ready=1, paused=True, takers=0), "paused"),
        (QueueLine("a", stats(in_flight=2), QueueOptions("a", concurrency=2), 1), "limited"),
        (QueueLine("a", None, QueueOptions("a"), 1, problem="WRONGTYPE"), "unreadable"),
    ],
)
def test_a_queue_says_what_keeps_its_tasks_from_starting(row: QueueLine, state: str) -> None:
    assert fleet.queue_row(row).state == state
