"""The figures of one queue: the one source for autoscaler, metrics and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from taskfleet import foreign


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Counts of tasks now, and counters since the queue's first task.

    `ready` waits for a worker; `in_flight` is claimed; `delayed` waits for its time, or for a slot or token of its
    limit key, of which `due` comes within the horizon asked for; `blocked` waits for other tasks;
    `oldest_age_seconds` is how long the head of the queue has been ready. `finished_total` counts every ending,
    `failed_total` those that became dead letters; `busy_ms_total` is time that tasks ran.
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
        # Each queue has figures, whatever stands in its counters: one that is no number of ours is 0.
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
        """Of a queue in several partitions."""
        if len(parts) == 1:
            return parts[0]
        sums: dict[str, Any] = {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(cls)}
        sums["oldest_age_seconds"] = max(part.oldest_age_seconds for part in parts)
        sums["paused"] = any(part.paused for part in parts)
        return cls(**sums)
