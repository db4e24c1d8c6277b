"""The figures of the scaling loops, plain numbers for the metrics: lags, reads, decisions."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskfleet.fleet_metrics import FleetFigures, RedisServers

from ..store.cluster_store import Key

LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECENT = 2000


@dataclass(slots=True)
class DecisionLag:
    """How long after their time decisions were made, in seconds: a histogram, and the last two thousand values."""

    buckets: list[int] = field(default_factory=lambda: [0] * len(LAG_BUCKETS))
    """How many were at most `LAG_BUCKETS[i]`."""
    count: int = 0
    total: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.recent.append(seconds)
        for number, limit in enumerate(LAG_BUCKETS):
            if seconds <= limit:
                self.buckets[number] += 1

    def percentile(self, share: float) -> float:
        """Of the recent values, 0 without any."""
        found = sorted(self.recent)
        return found[min(len(found) - 1, int(share * len(found)))] if found else 0.0


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The last decision about one TaskQueue. `terms` are its numbers by name; see `autoscaler/figures.py`."""

    desired: int
    current: int
    reason: str
    limited_by: str
    failed: bool
    terms: Mapping[str, float]
    fleet: FleetFigures | None = None
    """What the look has read, None when it could read nothing."""
    refused: bool = False
    """Whether the decision could not be carried out."""


@dataclass(frozen=True, slots=True)
class RedisFigures:
    """One Redis, prefix and login: its readings since the operator began to lead."""

    reads: int
    failures: int
    skipped: int
    read_seconds: float
    """Of the last reading."""
    read_seconds_total: float
    cordons: int
    listener_restarts: int
    listening: bool
    dead: str
    """The address of the Redis when its listener has ended, "" otherwise."""
    servers: RedisServers | None = None
    """Whether it answers, and how full it is; None before the first look."""
    decisions_recorded: int = 0
    decisions_lost: int = 0
    """Worth a record, and without one."""


COUNTED = (
    "reads", "failures", "skipped", "read_seconds_total", "cordons", "listener_restarts", "decisions_recorded",
    "decisions_lost",
)  # fmt: skip
"""The fields of `RedisFigures` that only grow."""


@dataclass(slots=True)
class LoopFigures:
    """Written by the loops, read by the metrics. It has one entry for each TaskQueue that has a loop."""

    lag: DecisionLag = field(default_factory=DecisionLag)
    decisions: Counter[str] = field(default_factory=Counter[str])
    """By reason."""
    queues: dict[Key, QueueFigures] = field(default_factory=dict[Key, QueueFigures])
    scaled: dict[Key, Counter[str]] = field(default_factory=dict[Key, Counter[str]])
    """Changes of the number of replicas, `up` and `down`."""

    closed: Counter[str] = field(default_factory=Counter[str])
    """What the connections have counted that were closed since: of `RedisFigures`, by the names in `COUNTED`."""

    wrong_departures: int = 0
    """Pods that a smaller number has taken although they were not drained."""

    def count_change(self, key: Key, current: int, replicas: int) -> None:
        self.scaled.setdefault(key, Counter())["up" if replicas > current else "down"] += 1

    def count_closed(self, redis: RedisFigures) -> None:
        """A connection is closed. What it has counted stays, so that no counter goes back."""
        self.closed.update({name: getattr(redis, name) for name in COUNTED})

    def forget(self, key: Key) -> None:
        self.queues.pop(key, None)
        self.scaled.pop(key, None)
