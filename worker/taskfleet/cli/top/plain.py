"""One snapshot for a pipe: four tables, or one JSON object."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from taskfleet.cli import listing, workers
from taskfleet.cli.listing import Column
from taskfleet.cli.top.sections import FAILURES, QUEUES, RUNS, WORKERS, Section
from taskfleet.watching.reading import FleetReading
from taskfleet.watching.snapshot import FailureLine, QueueLine, RunLine, Snapshot, WorkerLine

_BETWEEN_SECONDS = 1.0  # two readings, of which the rates are made
_LEFT_OUT = ("blocked", "limits", "prio", "version")  # for a table of 80 columns


async def show(reading: FleetReading, interval: float, *, as_json: bool) -> int:
    """Print one snapshot. It reads twice, so that there are rates."""
    await reading.snapshot(whole=True)
    await asyncio.sleep(min(interval, _BETWEEN_SECONDS))
    snapshot = await reading.snapshot(whole=True)
    if as_json:
        print(listing.as_text(_record(snapshot)))
        return 0
    sections: list[Section[Any]] = [QUEUES, WORKERS, RUNS, FAILURES]
    for n, section in enumerate(sections):
        print("\n" if n else "", end="")
        rows = sorted(section.rows(snapshot), key=section.first_order)
        if rows:
            listing.table(_columns(section), rows)
        else:
            print(section.none)
    return 0


def _columns(section: Section[Any]) -> list[Column[Any]]:
    return [
        Column(column.head, column.cell, column.right, cut=column.stretches and n > 0, name=n == 0)
        for n, column in enumerate(section.columns)
        if column.head not in _LEFT_OUT
    ]


def _record(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "items": [_queue(row) for row in sorted(snapshot.queues, key=QUEUES.first_order)],
        "workers": [_worker(row) for row in snapshot.workers],
        "running": [_run(row) for row in snapshot.runs],
        "failures": [_failure(row) for row in snapshot.failures],
        "at": snapshot.at,
    }


def _queue(row: QueueLine) -> dict[str, Any]:
    figures = dataclasses.asdict(row.stats) if row.stats is not None else {}
    return {
        "name": row.name, **figures, "priority": row.options.priority, "workers": row.takers,
        "enqueued_per_second": row.enqueued_per_second, "finished_per_second": row.finished_per_second,
        "state": row.state, "problem": row.problem,
    }  # fmt: skip


def _worker(row: WorkerLine) -> dict[str, Any]:
    return {**workers.record(row.info), "heartbeat_age_seconds": row.beat_age_seconds}


def _run(row: RunLine) -> dict[str, Any]:
    return dataclasses.asdict(row)


def _failure(row: FailureLine) -> dict[str, Any]:
    return dataclasses.asdict(row)
