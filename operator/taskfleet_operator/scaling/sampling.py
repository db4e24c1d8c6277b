"""Makes one sample for the autoscaler from the figures in Redis and the replica counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from taskfleet import describing, showing
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.figures import Horizons
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

from ..autoscaler import FleetSample, QueueSample, WorkerSample, horizons
from .order import QueueTarget, ScalingOrder
from .silent_workers import SilentWorkers, live

logger = showing.logger("taskfleet.scaling")

_FAILURE_LIMIT = 300  # characters


class QueueReader(Protocol):
    """Reads queues and workers; `reader.QueuesReader` does so for many loops at once."""

    async def read(
        self, horizons: Mapping[str, Horizons], *, urgent: bool = False, workers: bool = True
    ) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Replicas:
    """The replicas of one fleet. `current` is the requested number; `ready` and `pending` are parts of it.

    `ages` gives the seconds since the creation of each existing replica that is not being removed. Heartbeats of other
    names on the same Redis belong to another TaskQueue. `marked` replicas are removed first when the number falls.
    `absent` replicas are requested, do not exist, and are not about to be made. `unready` replicas exist and are not
    taken for working ones by the platform. `hold` says why no single replica can be chosen for removal now, "" when one
    can.
    """

    current: int
    ready: int
    pending: int
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    marked: frozenset[str] = frozenset()
    absent: int = 0
    unready: frozenset[str] = frozenset()
    hold: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures that one look read from Redis.

    `stats` by queue; the last heartbeats of all worker processes by the name of their replica, and, by queue, the
    number of those that claim from it. Without `fresh` the heartbeats were read `workers_age_seconds` ago.
    """

    stats: Mapping[str, QueueStats]
    workers: Mapping[str, Sequence[WorkerInfo]]
    fresh: bool = True
    workers_age_seconds: float = 0.0
    serving: Mapping[str, int] = field(default_factory=dict[str, int])


def by_name(workers: Iterable[WorkerInfo]) -> dict[str, list[WorkerInfo]]:
    """The worker processes of each replica."""
    found: dict[str, list[WorkerInfo]] = {}
    for one in workers:
        found.setdefault(one.name, []).append(one)
    return found


def horizons_of(order: ScalingOrder, start_latency_seconds: float | None) -> dict[str, Horizons]:
    """How far ahead due work of each queue is counted, in ms: for the drain term, and for a start from zero."""
    start, drain = horizons(start_latency_seconds, order.autoscaler)
    return {queue.name: (round(drain * 1000), round(start * 1000)) for queue in order.queues}


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one read. Without a reading there are no workers, and the sample has failed."""

    sample: FleetSample
    reading: Reading | None
    workers: tuple[WorkerSample, ...] | None


async def observe(
    reader: QueueReader,
    order: ScalingOrder,
    replicas: Replicas,
    *,
    start_latency_seconds: float | None = None,
    urgent: bool = False,
    workers: bool = True,
    silent: SilentWorkers | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Observation:
    """Read and build. Whatever goes wrong gives a failed sample, not an exception.

    `silent` is the caller's memory of busy workers from one look to the next, on this `clock`.
    """
    try:
        wanted = horizons_of(order, start_latency_seconds)
        reading = await reader.read(wanted, urgent=urgent, workers=workers and bool(replicas.ages))
        seen = workers_of(reading, replicas)
        if silent is not None:
            seen = silent.fill(seen, reading.workers, order, clock(), age_seconds=reading.workers_age_seconds)
        sample = build(reading, order, replicas, seen, start_latency_seconds=start_latency_seconds)
    except Exception as error:
        if not isinstance(error, (TaskQueueError, TimeoutError, OSError)):
            # The status tells it in a line. A server that answers nonsense must not fill the log at each look.
            logger.debug("figures from Redis cannot be used: %s", type(error).__name__, exc_info=True)
        return Observation(
            FleetSample.failed(failure_of(error), replicas.current, replicas.ready, order.overrides), None, None
        )
    return Observation(sample, reading, seen)


def failure_of(error: Exception) -> str:
    """One bounded line for an error. A server chooses its text, and its length."""
    text = describing.text_of(error) if isinstance(error, (TaskQueueError, OSError)) else ""
    return showing.shown(text or f"{type(error).__name__}: {describing.text_of(error)}", _FAILURE_LIMIT)


def workers_of(reading: Reading, replicas: Replicas) -> tuple[WorkerSample, ...]:
    """Each replica, its live worker processes taken together."""
    return tuple(
        _worker(
            name,
            age,
            live(reading.workers.get(name, ()), reading.workers_age_seconds),
            marked=name in replicas.marked,
            ready=name not in replicas.unready,
        )
        for name, age in replicas.ages.items()
    )


def build(
    reading: Reading,
    order: ScalingOrder,
    replicas: Replicas,
    workers: Sequence[WorkerSample],
    *,
    start_latency_seconds: float | None = None,
) -> FleetSample:
    """The sample of one TaskQueue."""
    names = replicas.ages.keys()
    runs = [one.oldest_run_seconds for name in names for one in reading.workers.get(name, ())]
    return FleetSample(
        queues=tuple(_queue(reading.stats[target.name], target) for target in order.queues),
        workers_registered=sum(worker.registered and not worker.silent for worker in workers),
        busy_workers=sum(worker.busy > 0 for worker in workers),
        current_replicas=replicas.current,
        ready_replicas=replicas.ready,
        pending_replicas=replicas.pending,
        slots_per_replica=order.slots_per_replica,
        oldest_run_seconds=max(runs, default=0.0),
        start_latency_seconds=start_latency_seconds,
        overrides=order.overrides,
    )


def registered_of(workers: Iterable[WorkerSample], processes: int) -> frozenset[str]:
    """The workers of which all processes have registered: `processes` heartbeats or more."""
    return frozenset(worker.name for worker in workers if worker.processes >= processes)


def _queue(figures: QueueStats, target: QueueTarget) -> QueueSample:
    share = target.share
    # The tasks of a paused queue cannot be claimed: workers that start for them would have nothing to do.
    waits = not figures.paused
    return QueueSample(
        name=target.name,
        backlog=share.of(figures.ready) if waits else 0,
        in_flight=share.of(figures.in_flight),
        delayed=share.of(figures.delayed),
        due=share.of(figures.due + figures.ticks_due) if waits else 0,
        due_within_start=share.of(figures.due_soon + figures.ticks_due_soon) if waits else 0,
        dead=figures.dead,
        oldest_age_seconds=figures.oldest_age_seconds if waits else 0.0,
        runnable_total=figures.runnable_total,
        attempts_total=figures.attempts_total,
        busy_ms_total=figures.busy_ms_total,
        parked=figures.parked,
        target_latency_seconds=target.target_latency_seconds,
        rate_per_second=share.of_limit(target.rate_per_second),
        concurrency=None if target.concurrency is None else share.of(target.concurrency),
        rate_per_second_per_key=share.of_limit(target.rate_per_second_per_key),
        concurrency_per_key=target.concurrency_per_key,
        share=share.width,
    )


def _worker(name: str, age: float, processes: Sequence[WorkerInfo], *, marked: bool, ready: bool) -> WorkerSample:
    if not processes:
        return WorkerSample(name, registered=False, age_seconds=age, marked=marked, ready=ready)
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
        ready=ready,
    )
