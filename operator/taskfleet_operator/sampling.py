"""From what Redis and the replica counts say to one sample for the autoscaler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

from .autoscaler import NO_OVERRIDES, FleetSample, QueueSample, ScalingOverrides, WorkerSample, horizons
from .resource.autoscaler_spec import AutoscalerSpec

STALE_HEARTBEAT_SECONDS = 30.0
"""A worker silent for longer does not count: it is dead, or it cannot reach Redis."""


class QueueReader(Protocol):
    """What sampling asks of `taskfleet.redis.broker.RedisBroker`."""

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]: ...

    async def workers(self) -> list[WorkerInfo]: ...


@dataclass(frozen=True, slots=True)
class Replicas:
    """The pods, or local processes, of one TaskQueue.

    `names` are those that exist; heartbeats of other names on the same Redis belong to another TaskQueue.
    """

    current: int
    ready: int
    pending: int
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class QueueTarget:
    """A queue of the manifest: its name and its own latency target in seconds."""

    name: str
    target_latency_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at Redis: figures of every queue within both horizons, and every worker's last heartbeat."""

    stats: Mapping[str, QueueStats]
    due_within_start: Mapping[str, int]
    workers: tuple[WorkerInfo, ...]


async def read(
    broker: QueueReader, queues: Sequence[str], spec: AutoscalerSpec, start_latency_seconds: float | None
) -> Reading:
    """Read the queues once; a second time only when something is due soon, to see if it is due very soon.

    Raises BrokerConnectionError when Redis cannot be reached.
    """
    start, drain = horizons(start_latency_seconds, spec)
    stats = await broker.stats_many(queues, horizon_ms=round(drain * 1000))
    due = {name: figures.due for name, figures in stats.items()}
    soon = [name for name, count in due.items() if count]
    if soon and start < drain:
        nearer = await broker.stats_many(soon, horizon_ms=round(start * 1000))
        due.update({name: figures.due for name, figures in nearer.items()})
    return Reading(stats, due, tuple(await broker.workers()))


def workers_of(reading: Reading, names: frozenset[str]) -> dict[str, list[WorkerInfo]]:
    """The live worker processes of each of our pods."""
    found: dict[str, list[WorkerInfo]] = {}
    for worker in reading.workers:
        if worker.name in names and worker.heartbeat_age_seconds <= STALE_HEARTBEAT_SECONDS:
            found.setdefault(worker.name, []).append(worker)
    return found


def build(
    reading: Reading,
    queues: Iterable[QueueTarget],
    replicas: Replicas,
    *,
    slots_per_replica: int,
    start_latency_seconds: float | None = None,
    overrides: ScalingOverrides = NO_OVERRIDES,
    scheduled: Mapping[str, Sequence[float]] | None = None,
    spec: AutoscalerSpec | None = None,
) -> FleetSample:
    """The sample of one TaskQueue.

    `scheduled` gives, for each queue, the seconds until its cron schedules fire next; they count as due work when
    `spec` says how far to look ahead.
    """
    live = workers_of(reading, replicas.names)
    start, drain = horizons(start_latency_seconds, spec) if spec is not None else (0.0, 0.0)
    return FleetSample(
        queues=tuple(
            _queue(reading, target, (scheduled or {}).get(target.name, ()), start, drain) for target in queues
        ),
        workers_registered=len(live),
        busy_workers=sum(any(worker.busy for worker in processes) for processes in live.values()),
        current_replicas=replicas.current,
        ready_replicas=replicas.ready,
        pending_replicas=replicas.pending,
        slots_per_replica=slots_per_replica,
        start_latency_seconds=start_latency_seconds,
        overrides=overrides,
    )


async def sample(
    broker: QueueReader,
    queues: Sequence[QueueTarget],
    replicas: Replicas,
    spec: AutoscalerSpec,
    *,
    slots_per_replica: int,
    start_latency_seconds: float | None = None,
    overrides: ScalingOverrides = NO_OVERRIDES,
    scheduled: Mapping[str, Sequence[float]] | None = None,
) -> tuple[FleetSample, Reading | None]:
    """Read and build. A read that fails gives a failed sample, not an exception."""
    try:
        reading = await read(broker, [queue.name for queue in queues], spec, start_latency_seconds)
    except TaskQueueError as error:
        return FleetSample.failed(str(error), replicas.current, replicas.ready, overrides), None
    built = build(
        reading,
        queues,
        replicas,
        slots_per_replica=slots_per_replica,
        start_latency_seconds=start_latency_seconds,
        overrides=overrides,
        scheduled=scheduled,
        spec=spec,
    )
    return built, reading


def candidates(reading: Reading, names: Mapping[str, float]) -> tuple[WorkerSample, ...]:
    """Each pod or process as a candidate for removal. `names` maps its name to its age in seconds."""
    live = workers_of(reading, frozenset(names))
    return tuple(_candidate(name, age, live.get(name, [])) for name, age in names.items())


def percentile(seconds: Sequence[float], share: float = 0.9) -> float | None:
    """The smallest value that `share` of the values do not exceed; None of nothing."""
    if not seconds:
        return None
    return sorted(seconds)[max(0, math.ceil(share * len(seconds) - 1e-9) - 1)]


def _queue(reading: Reading, target: QueueTarget, fires: Sequence[float], start: float, drain: float) -> QueueSample:
    figures = reading.stats[target.name]
    return QueueSample(
        name=target.name,
        # A paused queue's tasks cannot be claimed: workers would come and have nothing to do.
        backlog=0 if figures.paused else figures.ready,
        in_flight=figures.in_flight,
        delayed=figures.delayed,
        due=0 if figures.paused else figures.due + sum(seconds <= drain for seconds in fires),
        due_within_start=0
        if figures.paused
        else reading.due_within_start.get(target.name, 0) + sum(seconds <= start for seconds in fires),
        dead=figures.dead,
        oldest_age_seconds=0.0 if figures.paused else figures.oldest_age_seconds,
        enqueued_total=figures.enqueued_total,
        finished_total=figures.finished_total,
        busy_ms_total=figures.busy_ms_total,
        target_latency_seconds=target.target_latency_seconds,
    )


def _candidate(name: str, age: float, processes: list[WorkerInfo]) -> WorkerSample:
    busy = sum(process.busy for process in processes)
    return WorkerSample(
        name=name,
        registered=bool(processes),
        busy=busy,
        idle_seconds=min((process.idle_seconds for process in processes), default=0.0) if not busy else 0.0,
        age_seconds=age,
        drained=bool(processes) and all(process.state == "drained" for process in processes),
    )
