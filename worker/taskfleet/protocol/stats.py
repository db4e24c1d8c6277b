"""The figures of one queue, used by the autoscaler, the metrics and the views alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from taskfleet import foreign


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Current counts of tasks, and counters since the queue's first task.

    `ready` tasks wait for a worker, `in_flight` tasks are claimed, and `blocked` tasks wait for other tasks. `delayed`
    tasks wait for their time, or for a slot or token of their limit key; of these, `due` tasks are due within the
    requested horizon. `oldest_age_seconds` is how long the head of the queue has been ready. `finished_total` counts
    every end, `failed_total` those that became dead letters, and `busy_ms_total` the time for which handlers ran.
    """

    ready: int
    in_flight: int
    delayed: int
    due: int
    dead: int
    oldest_age_seconds: float
    enqueued_total: int
    finished_total: int
    failed_total: int
    busy_ms_total: int
    paused: bool
    blocked: int = 0

    @classmethod
    def of_reply(cls, reply: Sequence[int]) -> QueueStats:
        # Every queue gets figures. A counter that Taskfleet cannot have written is read as 0.
        figures = [figure if 0 <= figure <= foreign.LARGEST else 0 for figure in reply[:12]]
        ready, in_flight, delayed, due, dead, age_ms, enqueued, finished, failed, busy_ms, paused, blocked = figures
        return cls(
            ready,
            in_flight,
            delayed,
            due,
            dead,
            min(age_ms, foreign.LAST_MS) / 1000,
            enqueued,
            finished,
            failed,
            busy_ms,
            bool(paused),
            blocked,
        )

    @classmethod
    def total(cls, parts: Sequence[QueueStats]) -> QueueStats:
        """The figures of a queue with several partitions."""
        if len(parts) == 1:
            return parts[0]
        sums: dict[str, Any] = {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(cls)}
        sums["oldest_age_seconds"] = max(part.oldest_age_seconds for part in parts)
        sums["paused"] = any(part.paused for part in parts)
        return cls(**sums)
