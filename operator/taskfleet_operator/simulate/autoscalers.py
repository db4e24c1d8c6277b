"""The autoscaler of this operator in simulated time: the real decision, the real drain, and the loop's times."""

from __future__ import annotations

import math
from typing import Protocol

from ..autoscaler import (
    DrainingWorker,
    FleetSample,
    QueueSample,
    ScalingDecision,
    ScalingState,
    StartLatencies,
    WorkerSample,
    decide,
    horizons,
    next_steps,
)
from ..resource.autoscaler_spec import AutoscalerSpec
from .load import Load
from .simulated_fleet import SimulatedFaults, SimulatedFleet

_DRAINING_LOOK_SECONDS = 0.5  # as in scaling/loop.py
_SETTLE_SECONDS = 2.0  # as in control/fleet/kubernetes_fleet.py


class SimulatedAutoscaler(Protocol):
    """Looks at a fleet and resizes it. `look` returns the time of the next look."""

    name: str

    def look(self, fleet: SimulatedFleet, now: float) -> float: ...

    def woken(self, fleet: SimulatedFleet, now: float) -> float:
        """A task has come to an empty queue: the time of a look for it, infinity for none."""
        ...


class OurAutoscaler:
    """`decide` and `next_steps`, as the control loop calls them.

    From zero a wake leads to a look 0.1 s later, as in the loop. While pods exist, looks are at least a second apart:
    that saves most of the time of a simulation and changes little.
    """

    def __init__(self, name: str, spec: AutoscalerSpec, load: tuple[Load, ...], faults: SimulatedFaults) -> None:
        self.name = name
        self.decided: ScalingDecision | None = None
        self._spec = spec
        self._load = load
        self._faults = faults
        self._state: ScalingState | None = None
        self._latencies = StartLatencies()
        self._draining: dict[str, DrainingWorker] = {}
        self._decided = -math.inf
        self._next_poll = 0.0

    def woken(self, fleet: SimulatedFleet, now: float) -> float:
        return max(now, self._decided + (1.0 if fleet.current else 0.1))

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        spec = self._spec
        workers = self._workers(fleet, now)
        sample = self._sample(fleet, now)
        if self._state is None:
            self._state = ScalingState.initial(fleet.current, now)
        decision = decide(sample, self._state, spec, now)
        self.decided, self._state, self._decided = decision, decision.state, now
        self._latencies = self._latencies.with_look(
            {worker.name: worker.age_seconds for worker in workers},
            frozenset(worker.name for worker in workers if worker.registered),
        )
        steps = next_steps(
            decision,
            None if sample.failure else workers,
            self._draining,
            spec,
            now,
            settle_seconds=_SETTLE_SECONDS,
        )
        for name in steps.uncordon:
            fleet.cordon(name, on=False)
        for name in steps.unmark:
            fleet.pods[name].marked = False
        for name in steps.cordon:
            fleet.cordon(name, on=True)
        for name in steps.mark:
            fleet.pods[name].marked = True
        self._draining = dict(steps.draining)
        fleet.resize(steps.replicas, now)
        fleet.dispatch(now)
        self._next_poll = now + spec.poll_interval_seconds
        return now + _DRAINING_LOOK_SECONDS if self._draining else self._next_poll

    def _workers(self, fleet: SimulatedFleet, now: float) -> tuple[WorkerSample, ...]:
        return tuple(
            WorkerSample(
                name=pod.name,
                registered=pod.registered,
                busy=pod.busy,
                idle_seconds=0.0 if pod.busy else now - pod.idle_since,
                age_seconds=now - pod.created,
                drained=pod.registered and pod.cordoned and not pod.busy,
                cordoned=pod.registered and pod.cordoned,
                marked=pod.marked,
                processes=1,
            )
            for pod in fleet.pods.values()
        )

    def _sample(self, fleet: SimulatedFleet, now: float) -> FleetSample:
        registered = fleet.registered
        if self._faults.loses(now):
            return FleetSample.failed("the sample is lost", fleet.current, registered)
        start, drain = horizons(self._latencies.percentile_90, self._spec)
        queue = QueueSample(
            name="default",
            backlog=fleet.backlog,
            in_flight=fleet.in_flight,
            due=sum(load.due(now, drain) for load in self._load),
            due_within_start=sum(load.due(now, start) for load in self._load),
            oldest_age_seconds=fleet.oldest_age(now),
            runnable_total=fleet.runnable,
            attempts_total=fleet.attempts,
            busy_ms_total=round(fleet.busy_seconds(now) * 1000),
            concurrency=fleet.concurrency,
        )
        return FleetSample(
            queues=(queue,),
            workers_registered=registered,
            busy_workers=fleet.busy_pods,
            current_replicas=fleet.current,
            ready_replicas=registered,
            pending_replicas=fleet.current - registered,
            slots_per_replica=fleet.slots,
            oldest_run_seconds=fleet.oldest_run(now),
            start_latency_seconds=self._latencies.percentile_90,
        )
