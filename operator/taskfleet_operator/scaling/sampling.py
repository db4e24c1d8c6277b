"""Makes one sample for the autoscaler from the figures in Redis and the replica counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from taskfleet import describing, showing
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

from ..autoscaler import FleetSample, QueueSample, WorkerSample, horizons
from ..resource.autoscaler_spec import AutoscalerSpec
from .order import QueueTarget, ScalingOrder

logger = showing.logger("taskfleet.scaling")

_FAILURE_LIMIT = 300  # characters

STALE_HEARTBEAT_SECONDS = 30.0
"""A worker whose last heartbeat is older does not count: it is dead, or it cannot reach Redis."""


class QueueReader(Protocol):
    """The methods of `taskfleet.redis.broker.RedisBroker` that sampling uses."""

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]: ...

    async def workers(self) -> list[WorkerInfo]: ...


@dataclass(frozen=True, slots=True)
class Replicas:
    """The replicas of one fleet. `current` is the requested number; `ready` and `pending` are parts of it.

    `ages` gives the seconds since the creation of each existing replica that is not being removed. Heartbeats of other
    names on the same Redis belong to another TaskQueue. `marked` replicas are removed first when the number falls.
    `absent` replicas are requested, do not exist, and are not about to be made.
    """

    current: int
    ready: int
    pending: int
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    marked: frozenset[str] = frozenset()
    absent: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures that one look read from Redis.

    `stats` by queue, with `due` within the drain horizon; tasks due within the start horizon; every worker's last
    heartbeat.
    """

    stats: Mapping[str, QueueStats]
    due_within_start: Mapping[str, int]
    workers: tuple[WorkerInfo, ...]


async def read(
    broker: QueueReader, queues: Sequence[str], spec: AutoscalerSpec, start_latency_seconds: float | None
) -> Reading:
    """Read the queues. Queues with tasks due within the drain horizon are read again with the start horizon.

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


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one read. Without a reading there are no workers, and the sample has failed."""

    sample: FleetSample
    reading: Reading | None
    workers: tuple[WorkerSample, ...] | None


async def observe(
    broker: QueueReader, order: ScalingOrder, replicas: Replicas, *, start_latency_seconds: float | None = None
) -> Observation:
    """Read and build. Whatever goes wrong gives a failed sample, not an exception."""
    names = [queue.name for queue in order.queues]
    try:
        reading = await read(broker, names, order.autoscaler, start_latency_seconds)
        workers = workers_of(reading, replicas)
        sample = build(reading, order, replicas, workers, start_latency_seconds=start_latency_seconds)
    except Exception as error:
        if not isinstance(error, (TaskQueueError, TimeoutError, OSError)):
            logger.warning("figures from Redis cannot be used: %s: %s", type(error).__name__, error, exc_info=True)
        return Observation(
            FleetSample.failed(failure_of(error), replicas.current, replicas.ready, order.overrides), None, None
        )
    return Observation(sample, reading, workers)


def failure_of(error: Exception) -> str:
    """One bounded line for an error. A server chooses its text, and its length."""
    text = describing.text_of(error) if isinstance(error, (TaskQueueError, OSError)) else ""
    return showing.shown(text or f"{type(error).__name__}: {describing.text_of(error)}", _FAILURE_LIMIT)


def workers_of(reading: Reading, replicas: Replicas) -> tuple[WorkerSample, ...]:
    """Each replica, its live worker processes taken together."""
    live: dict[str, list[WorkerInfo]] = {name: [] for name in replicas.ages}
    for process in reading.workers:
        if process.name in live and process.heartbeat_age_seconds <= STALE_HEARTBEAT_SECONDS:
            live[process.name].append(process)
    return tuple(_worker(name, age, live[name], marked=name in replicas.marked) for name, age in replicas.ages.items())


def build(
    reading: Reading,
    order: ScalingOrder,
    replicas: Replicas,
    workers: Sequence[WorkerSample],
    *,
    start_latency_seconds: float | None = None,
    scheduled: Mapping[str, Sequence[float]] | None = None,
) -> FleetSample:
    """The sample of one TaskQueue.

    `scheduled` gives, for each queue, the seconds until its cron schedules fire next. They count as due work.
    """
    start, drain = horizons(start_latency_seconds, order.autoscaler)
    fires = scheduled or {}
    return FleetSample(
        queues=tuple(_queue(reading, target, fires.get(target.name, ()), start, drain) for target in order.queues),
        workers_registered=sum(worker.registered for worker in workers),
        busy_workers=sum(worker.busy > 0 for worker in workers),
        current_replicas=replicas.current,
        ready_replicas=replicas.ready,
        pending_replicas=replicas.pending,
        slots_per_replica=order.slots_per_replica,
        start_latency_seconds=start_latency_seconds,
        overrides=order.overrides,
    )


def registered_of(workers: Iterable[WorkerSample], processes: int) -> frozenset[str]:
    """The workers of which all processes have registered: `processes` heartbeats or more."""
    return frozenset(worker.name for worker in workers if worker.processes >= processes)


def _queue(reading: Reading, target: QueueTarget, fires: Sequence[float], start: float, drain: float) -> QueueSample:
    figures = reading.stats[target.name]
    return QueueSample(
        name=target.name,
        # The tasks of a paused queue cannot be claimed: workers that start for them would have nothing to do.
        backlog=0 if figures.paused else figures.ready,
        in_flight=figures.in_flight,
        delayed=figures.delayed,
        due=0 if figures.paused else figures.due + sum(seconds <= drain for seconds in fires),
        due_within_start=0
        if figures.paused
        else reading.due_within_start.get(target.name, 0) + sum(seconds <= start for seconds in fires),
        dead=figures.dead,
        oldest_age_seconds=0.0 if figures.paused else figures.oldest_age_seconds,
        runnable_total=figures.enqueued_total,
        attempts_total=figures.finished_total,
        busy_ms_total=figures.busy_ms_total,
        target_latency_seconds=target.target_latency_seconds,
    )


def _worker(name: str, age: float, processes: Sequence[WorkerInfo], *, marked: bool) -> WorkerSample:
    if not processes:
        return WorkerSample(name, registered=False, age_seconds=age, marked=marked)
    busy = sum([process.busy for process in processes])
    states = {process.state for process in processes}
    return WorkerSample(
        name=name,
        registered=True,
        busy=busy,
        idle_seconds=0.0 if busy else min([process.idle_seconds for process in processes]),
        age_seconds=age,
        drained=states == {"drained"},
        cordoned="drained" in states or "cordoned" in states,
        marked=marked,
        processes=len(processes),
    )
