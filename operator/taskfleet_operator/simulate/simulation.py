"""The event loop of a simulation, and what it measures."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .autoscalers import SimulatedAutoscaler
from .load import Load
from .simulated_fleet import SimulatedFaults, SimulatedFleet, SimulatedPod

_CURVE_POINTS = 360


@dataclass(frozen=True, slots=True)
class SimulatedWorld:
    """Everything but the autoscaler."""

    name: str
    loads: tuple[Load, ...]
    seconds: float
    slots: int
    start_seconds: float
    faults: SimulatedFaults = field(default_factory=SimulatedFaults)
    maximum: int = 200
    minimum: int = 0
    concurrency: int | None = None
    steady_from: float | None = None
    seed: int = 1


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The picture at one time."""

    at: float
    backlog: int
    age: float
    replicas: int
    working: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run has cost and how late it was. `cost` is pod-seconds over those of pods that are never idle."""

    autoscaler: str
    cost: float
    wait_95: float
    wait_99: float
    wait_longest: float
    reversals: int
    steady_reversals: int | None
    taken_busy: int
    rerun: int
    most_replicas: int
    curve: tuple[CurvePoint, ...]


def simulate(world: SimulatedWorld, autoscaler: SimulatedAutoscaler) -> Measured:
    """Run the world with this autoscaler."""
    fleet = SimulatedFleet(
        slots=world.slots,
        start_seconds=world.start_seconds,
        seed=world.seed,
        faults=world.faults,
        concurrency=world.concurrency,
    )
    if world.minimum:
        fleet.resize(world.minimum, 0.0)
    run = _Run(world, autoscaler, fleet)
    run.run()
    return run.measured()


class _Run:
    def __init__(self, world: SimulatedWorld, autoscaler: SimulatedAutoscaler, fleet: SimulatedFleet) -> None:
        self.world, self.autoscaler, self.fleet = world, autoscaler, fleet
        self.curve: list[CurvePoint] = []
        self.counts: list[tuple[float, int]] = []
        self.next_look = 0.0

    def run(self) -> None:
        world, fleet = self.world, self.fleet
        arrivals = heapq.merge(
            *(load.arrivals(world.seconds, world.seed + index) for index, load in enumerate(world.loads)),
            key=lambda one: one.at,
        )
        arriving = next(arrivals, None)
        purges = list(world.faults.purges)
        events, every = fleet.events, world.seconds / _CURVE_POINTS
        next_point = 0.0
        while True:
            arrive_at = arriving.at if arriving is not None else math.inf
            event_at = events[0][0] if events else math.inf
            now = min(arrive_at, event_at, self.next_look, next_point, purges[0] if purges else math.inf)
            if now > world.seconds:
                break
            if now == event_at:
                self._happen(heapq.heappop(events), now)
            elif arriving is not None and now == arrive_at:
                if fleet.arrive(arriving):
                    self.next_look = min(self.next_look, self.autoscaler.woken(fleet, now))
                arriving = next(arrivals, None)
            elif now == self.next_look:
                self.next_look = self.autoscaler.look(fleet, now)
                if not self.counts or self.counts[-1][1] != fleet.current:
                    self.counts.append((now, fleet.current))
            elif now == next_point:
                self._note(now)
                next_point += every
            else:
                purges.pop(0)
                fleet.purge()
        fleet.close(world.seconds)

    def _happen(self, event: tuple[float, int, int, object], now: float) -> None:
        _, _, kind, subject = event
        if kind == SimulatedFleet.END:
            assert isinstance(subject, int)
            self.fleet.end(subject, now)
            return
        assert isinstance(subject, SimulatedPod)
        if kind == SimulatedFleet.READY:
            self.fleet.ready(subject, now)
        else:
            self.fleet.kill(subject, now)

    def _note(self, now: float) -> None:
        fleet = self.fleet
        self.curve.append(
            CurvePoint(now, fleet.backlog, fleet.oldest_age(now), fleet.current, fleet.registered, fleet.in_flight)
        )

    def measured(self) -> Measured:
        fleet, steady = self.fleet, self.world.steady_from
        ideal = max(1e-9, fleet.work_seconds / self.world.slots)
        wait = _percentiles(fleet.waits, fleet.on_time)
        turns = turning_points(self.counts)
        return Measured(
            autoscaler=self.autoscaler.name,
            cost=fleet.pod_seconds / ideal,
            wait_95=wait(0.95),
            wait_99=wait(0.99),
            wait_longest=max((seconds for seconds, _ in fleet.waits), default=0.0),
            reversals=len(turns),
            steady_reversals=None if steady is None else most_in_an_hour([at for at in turns if at >= steady]),
            taken_busy=fleet.taken_busy,
            rerun=fleet.rerun,
            most_replicas=max((count for _, count in self.counts), default=0),
            curve=tuple(self.curve),
        )


def turning_points(counts: list[tuple[float, int]]) -> list[float]:
    """The times at which the number changed from growing to shrinking, or back."""
    moves = [(at, count - before) for (_, before), (at, count) in itertools.pairwise(counts) if count != before]
    return [at for (_, before), (at, after) in itertools.pairwise(moves) if (before > 0) != (after > 0)]


def most_in_an_hour(times: list[float]) -> int:
    """The most of these times within any hour."""
    return max((sum(begin <= at < begin + 3600 for at in times) for begin in times), default=0)


def _percentiles(waits: list[tuple[float, int]], on_time: int) -> Callable[[float], float]:
    ordered = sorted(waits)
    total = on_time + sum(count for _, count in ordered)

    def percentile(share: float) -> float:
        rest = (1 - share) * total
        for seconds, count in reversed(ordered):
            if rest < count:
                return seconds
            rest -= count
        return 0.0

    return percentile
