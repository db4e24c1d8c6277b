"""The figures of one queue, used by the autoscaler, the metrics and the views alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from taskfleet import foreign

_FEWEST, _MOST = 11, 18  # figures in a reply: of the first version, and of this one


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Current counts of tasks, and counters since the queue's first task.

    `ready` tasks wait for a worker, `in_flight` tasks are claimed, and `blocked` tasks wait for other tasks. `delayed`
    tasks wait for their time, or for a slot or token of their limit key; of these, `due` tasks are due within the
    requested horizon. `oldest_age_seconds` is how long the head of the queue has been ready. `finished_total` counts
    every end, `failed_total` those that became dead letters, and `busy_ms_total` the time for which handlers ran.

    `runnable_total` counts how often a task became ready: when it was accepted as ready, when its delay or its retry
    delay ended, when the tasks that it waited for had ended, and when it was taken over from a dead worker.
    `attempts_total` counts the runs that ended, with whatever outcome; a task that is purged, expires or is cancelled
    before it runs is in neither it nor `busy_ms_total`. `parked` of the delayed tasks wait for their limit key.
    `due_soon` is `due` within a second, shorter horizon; `ticks_due` and `ticks_due_soon` are the schedules whose next
    tick, even an overdue one, is within these horizons.
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
    runnable_total: int = 0
    attempts_total: int = 0
    parked: int = 0
    due_soon: int = 0
    ticks_due: int = 0
    ticks_due_soon: int = 0

    @classmethod
    def of_reply(cls, reply: Any) -> QueueStats:
        """The figures of a reply of the script. `ForeignError` for what is none."""
        figures: list[Any] = reply[:_MOST] if isinstance(reply, list) else []
        if len(figures) < _FEWEST or any(type(figure) is not int for figure in figures):
            raise foreign.ForeignError("something else than the figures of a queue")
        # Every queue gets figures. A counter that Taskfleet cannot have written is read as 0.
        figures = [figure if 0 <= figure <= foreign.LARGEST else 0 for figure in figures]
        ready, in_flight, delayed, due, dead, age_ms, enqueued, finished, failed, busy_ms, paused, *added = figures
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
            *added,
        )

    def not_behind(self, before: QueueStats) -> QueueStats:
        """These figures, their `runnable_total` not below that of an earlier reading of the same counters.

        A worker of an earlier version moves overdue tasks, which count as ready, without counting them. A queue that
        has lost its counters is told by `enqueued_total`, and starts anew.
        """
        if self.runnable_total >= before.runnable_total or self.enqueued_total < before.enqueued_total:
            return self
        return replace(self, runnable_total=before.runnable_total)

    @classmethod
    def total(cls, parts: Sequence[QueueStats]) -> QueueStats:
        """The figures of a queue with several partitions."""
        if len(parts) == 1:
            return parts[0]
        sums: dict[str, Any] = {
            field.name: min(foreign.LARGEST, sum(getattr(part, field.name) for part in parts)) for field in fields(cls)
        }
        sums["oldest_age_seconds"] = max(part.oldest_age_seconds for part in parts)
        sums["paused"] = any(part.paused for part in parts)
        return cls(**sums)


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """How full one Redis server is. `most_bytes` is its `maxmemory`, 0 without a limit."""

    address: str
    used_bytes: int
    most_bytes: int


def left_over(stats: Mapping[str, QueueStats]) -> str:
    """The tasks of these queues that have not ended, in words: `3 ready, 1 delayed in default`. Empty for none."""
    found: list[str] = []
    for name, each in sorted(stats.items()):
        states = {"ready": each.ready, "running": each.in_flight, "delayed": each.delayed, "blocked": each.blocked}
        numbers = [f"{number} {state}" for state, number in states.items() if number]
        if numbers:
            found.append(f"{', '.join(numbers)} in {name}")
    return "; ".join(found)
