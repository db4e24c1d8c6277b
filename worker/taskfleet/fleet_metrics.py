"""The Prometheus metrics of queues, fleets and Redis servers, for whoever reads them: the operator, or a dashboard.

They are made at a scrape from what was read last; a scrape asks Redis nothing. Names come from Redis, so they are shown
as text, and there are at most so many of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet import foreign
from taskfleet.protocol.stats import QueueStats, ServerMemory
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.showing import shown

MOST_QUEUES = 2000
OTHER = "other"
"""The label of all queues beyond the most that have one of their own."""

_REMEMBERED_SECONDS = 600.0
_STATES = ("starting", "running", "draining", "cordoned", "drained")

Owner = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What was read last of one fleet.

    `owner` are the values of the collector's own labels, none for a reader of one Redis. `workers` are the processes of
    this fleet; `serving` says by queue how many claim from it, also those of other fleets on the same Redis
    (`protocol.worker_info.serving`). `targets` are latency targets in seconds by queue.
    """

    owner: Owner = ()
    queues: Mapping[str, QueueStats] = field(default_factory=dict[str, QueueStats])
    workers: Sequence[WorkerInfo] = ()
    serving: Mapping[str, int] = field(default_factory=dict[str, int])
    targets: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class RedisServers:
    """One Redis, by the address at which it is reached, and how full its servers are: none when that is not known."""

    address: str
    reachable: bool
    servers: Sequence[ServerMemory] = ()


@dataclass(frozen=True, slots=True)
class Readings:
    """What a scrape shows."""

    fleets: Sequence[FleetFigures] = ()
    redis: Sequence[RedisServers] = ()


class FleetCollector(Collector):
    """Shows the last readings. `owner` are the names of the labels that tell fleets apart."""

    def __init__(
        self,
        read: Callable[[], Readings],
        owner: Sequence[str] = (),
        *,
        most_queues: int = MOST_QUEUES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._owner = tuple(owner)
        self._most = most_queues
        self._named: dict[tuple[Owner, str], None] = {}  # the queues that have a label of their own
        self._counters = _Counters(clock)
        self._lock = threading.Lock()  # two scrapes may come at once, and both look at what was before

    def collect(self) -> Iterator[Metric]:
        readings = self._read()
        yield from self._queues(readings.fleets)
        yield from self._fleets(readings.fleets)
        yield from _redis(readings.redis)

    def _queues(self, fleets: Iterable[FleetFigures]) -> Iterator[Metric]:
        rows = self._rows(fleets)
        label = (*self._owner, "queue")
        for name, meaning, figure in _GAUGES:
            yield _family(GaugeMetricFamily, f"taskfleet_queue_{name}", meaning, label, _values(rows, figure))
        for at, (name, meaning, _) in enumerate(_COUNTERS):
            values = ((key, row.totals[at]) for key, row in rows.items())
            yield _family(CounterMetricFamily, f"taskfleet_queue_{name}", meaning, label, values)
        serving = ((key, float(row.workers)) for key, row in rows.items())
        yield _family(
            GaugeMetricFamily, "taskfleet_queue_workers", "Live worker processes that claim from it.", label, serving
        )
        targets = ((key, row.target) for key, row in rows.items() if row.target is not None)
        yield _family(
            GaugeMetricFamily, "taskfleet_queue_target_seconds", "Its latency target in seconds.", label, targets
        )

    def _rows(self, fleets: Iterable[FleetFigures]) -> dict[Owner, _Row]:
        """The queues by their labels. Queues without a label of their own are added up for each owner."""
        found: dict[tuple[Owner, str], _Row] = {}
        for fleet in fleets:
            for queue, stats in fleet.queues.items():
                found[fleet.owner, queue] = _Row(
                    [stats], workers=fleet.serving.get(queue, 0), target=fleet.targets.get(queue)
                )
        with self._lock:
            self._name(found)
            named = found.keys() & self._named.keys()
            totals, of_others = self._counters.of({key: row.stats[0] for key, row in found.items()}, named)
        rows: dict[Owner, _Row] = {}
        for key, row in found.items():
            owner, queue = key
            # Two names may be shown alike, and a queue may be named as the others are.
            label = shown(queue, foreign.NAME_LIMIT) if key in named else OTHER
            rows.setdefault((*_shown(owner), label), _Row()).add(row, totals[key] if key in named else ())
        for owner, grown in of_others.items():
            rows[*_shown(owner), OTHER].count(grown)
        return rows

    def _name(self, found: Mapping[tuple[Owner, str], object]) -> None:
        """Queues that have gone make room. Those that have a label keep it, so that no counter goes back."""
        for gone in [key for key in self._named if key not in found]:
            del self._named[gone]
        for key in sorted(found.keys() - self._named.keys()):
            if len(self._named) >= self._most:
                break
            self._named[key] = None

    def _fleets(self, fleets: Iterable[FleetFigures]) -> Iterator[Metric]:
        own = [(_shown(fleet.owner), fleet.workers) for fleet in fleets]
        states = (
            ((*owner, state), float(count)) for owner, workers in own for state, count in _by_state(workers).items()
        )
        yield _family(
            GaugeMetricFamily,
            "taskfleet_fleet_workers",
            "Worker processes with a heartbeat, by what it says.",
            (*self._owner, "state"),
            states,
        )
        for name, meaning, figure in _OF_WORKERS:
            values = ((owner, float(figure(workers))) for owner, workers in own)
            yield _family(GaugeMetricFamily, f"taskfleet_fleet_{name}", meaning, self._owner, values)


@dataclass(slots=True)
class _Row:
    """One line: the figures of a queue, or of several, and their counters as `_COUNTERS` has them."""

    stats: list[QueueStats] = field(default_factory=list[QueueStats])
    totals: list[float] = field(default_factory=lambda: [0.0] * len(_COUNTERS))
    workers: int = 0
    target: float | None = None

    def add(self, other: _Row, totals: Sequence[float]) -> None:
        """Also show `other`, with these counters: none for a queue that shares its label with all others."""
        self.stats += other.stats
        self.workers = max(self.workers, other.workers)
        if totals:
            self.count(totals)
            self.target = other.target if self.target is None else self.target

    def count(self, totals: Sequence[float]) -> None:
        self.totals = [mine + theirs for mine, theirs in zip(self.totals, totals, strict=True)]


_Queue = tuple[Owner, str]


class _Counters:
    """The counters of queues from one look to the next. Prometheus takes a counter that has fallen for one that has
    started anew, and counts all of it again.

    So a counter that a replica has a little less of, after a failover, stays until it is reached. Of the queues that
    share a label, which come and go, it is counted by how much they have grown since the first look. A queue that
    cannot be read for a while, as during a failover, is remembered.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before: dict[_Queue, list[float]] = {}
        self._last_seen: dict[_Queue, float] = {}
        self._grown: dict[Owner, list[float]] = {}

    def of(
        self, found: Mapping[_Queue, QueueStats], named: Container[_Queue]
    ) -> tuple[Mapping[_Queue, Sequence[float]], Mapping[Owner, Sequence[float]]]:
        """The counters of each queue, and of all that are not `named`, by owner."""
        none = [0.0] * len(_COUNTERS)
        now = self._clock()
        grown: dict[Owner, list[float]] = {}
        for key, stats in found.items():
            totals = [float(figure(stats)) for _, _, figure in _COUNTERS]
            earlier = self._before.get(key, totals)
            self._last_seen[key] = now
            totals = self._before[key] = list(map(_steady, earlier, totals))
            if key not in named:
                sums = grown.get(key[0]) or self._grown.get(key[0], none)
                grown[key[0]] = list(map(_plus_growth, sums, earlier, totals))
        self._grown = grown
        for key in [key for key, seen in self._last_seen.items() if now - seen > _REMEMBERED_SECONDS]:
            del self._last_seen[key], self._before[key]
        return self._before.copy(), grown


def _steady(earlier: float, now: float) -> float:
    return earlier if earlier / 2 < now < earlier else now


def _plus_growth(total: float, earlier: float, now: float) -> float:
    return total + (now - earlier if now >= earlier else now)


_GAUGES: tuple[tuple[str, str, Callable[[QueueStats], float]], ...] = (
    ("ready", "Tasks that wait for a worker.", lambda one: one.ready),
    ("running", "Tasks that workers have claimed.", lambda one: one.in_flight),
    ("delayed", "Tasks that wait for their time, or for their limit key.", lambda one: one.delayed),
    ("parked", "Those of the delayed tasks that wait for their limit key.", lambda one: one.parked),
    ("blocked", "Tasks that wait for other tasks.", lambda one: one.blocked),
    ("dead", "Dead letters that are kept.", lambda one: one.dead),
    ("oldest_age_seconds", "How long the head of the queue has been ready.", lambda one: one.oldest_age_seconds),
    ("paused", "1 when no task of it is claimed.", lambda one: float(one.paused)),
)
_COUNTERS: tuple[tuple[str, str, Callable[[QueueStats], float]], ...] = (
    ("enqueued", "Tasks that were accepted, since its first task.", lambda one: one.enqueued_total),
    ("finished", "Tasks that have ended, however.", lambda one: one.finished_total),
    ("failed", "Those that became dead letters.", lambda one: one.failed_total),
    ("attempts", "Runs that have ended, however.", lambda one: one.attempts_total),
    ("busy_seconds", "Seconds for which handlers ran.", lambda one: one.busy_ms_total / 1000),
)
_OF_WORKERS: tuple[tuple[str, str, Callable[[Sequence[WorkerInfo]], float]], ...] = (
    ("slots", "Tasks that its workers can run at a time.", lambda all_: sum(one.slots for one in all_)),
    ("busy_slots", "Slots that run a task.", lambda all_: sum(one.busy for one in all_)),
    ("stuck_slots", "Slots of handlers that cannot be stopped.", lambda all_: sum(one.stuck for one in all_)),
    (
        "clock_skew_seconds",
        "How far the clock of a worker differs from that of Redis, of the worst.",
        lambda all_: max((abs(one.clock_skew_seconds) for one in all_), default=0.0),
    ),
    (
        "oldest_run_seconds",
        "How long the longest run has taken so far.",
        lambda all_: max((one.oldest_run_seconds for one in all_), default=0.0),
    ),
)


def _values(rows: Mapping[Owner, _Row], figure: Callable[[QueueStats], float]) -> Iterator[tuple[Owner, float]]:
    return ((key, float(figure(QueueStats.total(row.stats)))) for key, row in rows.items())


def _by_state(workers: Iterable[WorkerInfo]) -> dict[str, int]:
    found: dict[str, int] = dict.fromkeys((*_STATES, OTHER), 0)
    for one in workers:
        found[one.state if one.state in _STATES else OTHER] += 1
    return found


def _redis(found: Iterable[RedisServers]) -> Iterator[Metric]:
    """Several users of one address are one Redis."""
    up: dict[Owner, float] = {}
    used: dict[Owner, float] = {}
    most: dict[Owner, float] = {}
    for one in found:
        address = shown(one.address, foreign.NAME_LIMIT)
        up[(address,)] = min(up.get((address,), 1.0), float(one.reachable))
        for server in one.servers:
            key = address, shown(server.address, foreign.NAME_LIMIT)
            used[key], most[key] = float(server.used_bytes), float(server.most_bytes)
    answered = "1 when it answered when it was last asked."
    yield _family(GaugeMetricFamily, "taskfleet_redis_up", answered, ("redis",), up.items())
    label = ("redis", "server")
    yield _family(GaugeMetricFamily, "taskfleet_redis_used_bytes", "Memory that it uses.", label, used.items())
    limit = "Its `maxmemory`, 0 without a limit."
    yield _family(GaugeMetricFamily, "taskfleet_redis_max_bytes", limit, label, most.items())


def _shown(labels: Iterable[str]) -> Owner:
    return tuple(shown(label, foreign.NAME_LIMIT) for label in labels)


def _family(kind: Any, name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Owner, float]]) -> Metric:
    made: Any = kind(name, meaning, labels=labels)
    for key, value in sorted(values):
        made.add_metric(key, value)
    metric: Metric = made
    return metric
