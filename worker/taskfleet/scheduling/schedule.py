"""A schedule, as `list_schedules` returns it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

ConcurrencyPolicy = Literal["Allow", "Forbid", "Replace"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule and its next tick. Times are in UTC, by the clock of Redis.

    Exactly one of `schedule` (a cron expression) and `every` (seconds) is set. `next_at` is `None` when it is paused.
    `last_at` is the tick that added the last task, `last_task_id`. The counters: added tasks, ticks that `Forbid`
    skipped, and drops of ticks that were later than the starting deadline (all ticks of one downtime count as one
    drop).
    """

    name: str
    schedule: str | None
    every: float | None
    time_zone: str
    task: str
    queue: str
    concurrency_policy: ConcurrencyPolicy
    starting_deadline_seconds: float | None
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    last_task_id: str | None
    fired_total: int
    skipped_total: int
    dropped_total: int


def as_json(schedule: Schedule) -> dict[str, Any]:
    """The record as JSON types: times in ISO 8601."""
    record = dataclasses.asdict(schedule)
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in record.items()}
