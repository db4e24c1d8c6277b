"""The figures of one queue: the one source for autoscaler, metrics and views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Counts of tasks now, and counters since the queue's first task.

    `ready` waits for a worker; `in_flight` is claimed; `delayed` waits for its time, of which `due` comes within the
    horizon asked for; `oldest_age_seconds` is how long the head of the queue has been ready. `finished_total` counts
    every ending, `failed_total` those that became dead letters; `busy_ms_total` is time that tasks ran.
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

    @classmethod
    def of_reply(cls, reply: Sequence[int]) -> QueueStats:
        ready, in_flight, delayed, due, dead, age_ms, enqueued, finished, failed, busy_ms, paused = reply
        return cls(
            ready, in_flight, delayed, due, dead, age_ms / 1000, enqueued, finished, failed, busy_ms, bool(paused)
        )
