"""The worlds that the autoscalers are compared in, and the comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from ..resource.autoscaler_spec import AutoscalerSpec
from . import load
from .autoscalers import OurAutoscaler, SimulatedAutoscaler
from .load import Load, RunTime
from .rivals import HpaOnUtilisation, KedaWithHpa
from .second_look import SEEDS, SecondLook, smallest_fixed
from .simulated_fleet import SimulatedFaults
from .simulation import Measured, SimulatedWorld, simulate

OURS = "ours"
WITHOUT_HEADROOM = "ours, 100 % busy"
"""Ours with `utilizationPercent: 100`: what the headroom of a fifth costs."""

LIMIT = 1.3
"""Ours may cost so many times what the cheapest rival costs that meets the target."""

MOST_REVERSALS = 2
_HOUR = 3600.0
_LARGE = "step, 60 s, 64 slots, start 60 s"
_WARM_UP = 900.0

RUN_TIMES = {
    "0.05 s": RunTime(0.05),
    "0.5 s": RunTime(0.5),
    "5 s": RunTime(5.0),
    "5 s, heavy tail": RunTime(5.0, tail=1.5),
    "60 s": RunTime(60.0),
    "60 s, heavy tail": RunTime(60.0, tail=1.5),
    "600 s": RunTime(600.0),
}
SLOTS = {1: 20.0, 8: 40.0, 64: 100.0}
"""Slots of a pod, and how many slots the load keeps busy then."""

STARTS = (1.0, 10.0, 60.0)


def allowed_wait(world: SimulatedWorld, spec: AutoscalerSpec) -> float:
    """The target, or what the cold start allows: a fleet that reacts after L drains within e·L without overshooting.

    While starts fail nobody can be in time.
    """
    failing = sum(end - begin for begin, end in world.faults.failing_starts)
    start = world.start_seconds + spec.poll_interval_seconds
    return failing + max(float(spec.target.drain_seconds), math.e * start)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One world, and what each autoscaler measured in it."""

    world: SimulatedWorld
    allowed: float
    measured: tuple[Measured, ...]
    second: SecondLook | None = None

    @property
    def ours(self) -> Measured:
        return next(one for one in self.measured if one.autoscaler == OURS)

    @property
    def rivals(self) -> list[Measured]:
        return [one for one in self.measured if one.autoscaler not in {OURS, WITHOUT_HEADROOM}]

    @property
    def without_headroom(self) -> Measured | None:
        return next((one for one in self.measured if one.autoscaler == WITHOUT_HEADROOM), None)

    def meets(self, one: Measured) -> bool:
        """In time, no busy pod taken, and at most two reversals in any hour of steady load."""
        return self.in_time(one) and not one.taken_busy and (one.steady_reversals or 0) <= MOST_REVERSALS

    def in_time(self, one: Measured) -> bool:
        return one.wait_95 <= self.allowed

    @property
    def cheapest(self) -> Measured | None:
        """The cheapest rival that meets the target."""
        return min((one for one in self.rivals if self.meets(one)), key=lambda one: one.cost, default=None)

    @property
    def cheapest_in_time(self) -> Measured | None:
        """The cheapest rival that is in time, whatever else it does."""
        return min((one for one in self.rivals if self.in_time(one)), key=lambda one: one.cost, default=None)

    def is_cheap(self, one: Measured) -> bool:
        return self.cheapest is None or one.cost <= LIMIT * self.cheapest.cost


def worlds() -> list[SimulatedWorld]:
    """The whole matrix: each load with each run time, and the faults.

    A steady load is tried in two of the nine pairs of slots and starts, any other in one; which ones differs from cell
    to cell, so that each pair meets many loads and run times.
    """
    return [*_cells(), *_faults()]


def _cells() -> list[SimulatedWorld]:
    found: list[SimulatedWorld] = []
    pairs = [(slots, start) for slots in SLOTS for start in STARTS]
    for row, (label, make) in enumerate(_LOADS.items()):
        for column, (run_label, run_time) in enumerate(RUN_TIMES.items()):
            first = 4 * row + 2 * column
            steady = label in {"step", "Poisson"}
            for slots, start in [pairs[place % 9] for place in ((first, first + 4) if steady else (first,))]:
                found.append(make(f"{label}, {run_label}, {slots} slots, start {start:.0f} s", run_time, slots, start))
    return found


def few_worlds() -> list[SimulatedWorld]:
    """A part that takes half a minute: every load, run time, number of slots, start and fault at least once."""
    cells = [world for number, world in enumerate(_cells()) if number % 5 == 4 or world.name == _LARGE]
    return [*cells, *_faults()]


def compare(world: SimulatedWorld, names: Sequence[str] = ()) -> Comparison:
    """Run the world with all autoscalers, or those with these names."""
    spec = AutoscalerSpec(max_replicas=world.maximum, min_replicas=world.minimum)
    chosen = [one for one in autoscalers(world, spec) if not names or one.name in names]
    return Comparison(world, allowed_wait(world, spec), tuple(simulate(world, one) for one in chosen))


def autoscalers(world: SimulatedWorld, spec: AutoscalerSpec) -> list[SimulatedAutoscaler]:
    """Ours and its rivals, each with its defaults; KEDA also with a list length that somebody tuned for this world."""
    run_time = world.loads[0].run_time.mean
    # As many waiting tasks a pod as it can run within the target, at least its slots.
    tuned = max(float(world.slots), world.slots * spec.target.drain_seconds / run_time)
    by_threshold = spec.model_copy(update={"policy": "Threshold"})
    full = spec.model_copy(update={"target": spec.target.model_copy(update={"utilization_percent": 100})})
    return [
        OurAutoscaler(OURS, spec, world.loads, world.faults),
        OurAutoscaler(WITHOUT_HEADROOM, full, world.loads, world.faults),
        OurAutoscaler("Threshold", by_threshold, world.loads, world.faults),
        KedaWithHpa("KEDA, 5 a pod", 5, world.maximum, world.faults),
        KedaWithHpa("KEDA, tuned", tuned, world.maximum, world.faults),
        HpaOnUtilisation("HPA, 80 % busy", world.maximum, world.faults),
    ]


def compare_all(chosen: Iterable[SimulatedWorld], *, processes: int) -> list[Comparison]:
    """Compare in several processes, each world by its name: a load is a function, which no process can be sent."""
    names = [world.name for world in chosen]
    if processes <= 1:
        return [compare_named(name) for name in names]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(compare_named, names))


def compare_named(name: str) -> Comparison:
    world = next(world for world in worlds() if world.name == name)
    return without_loads(looked_at_again(compare(world)))


def looked_at_again(first: Comparison) -> Comparison:
    """With a second look where a rival is much cheaper."""
    rival = first.cheapest
    if rival is None or first.is_cheap(first.ours):
        return first
    again = [compare(replace(first.world, seed=seed), [OURS, rival.autoscaler]) for seed in SEEDS]
    rivals = [one.rivals[0] for one in again]
    look = SecondLook(
        ours_on_target=sum(one.meets(one.ours) for one in again),
        rival_on_target=sum(one.meets(other) for one, other in zip(again, rivals, strict=True)),
        our_cost=sum(one.ours.cost for one in again) / len(again),
        rival_cost=sum(one.cost for one in rivals) / len(again),
        fixed=smallest_fixed(first.world, first.allowed),
    )
    return replace(first, second=look)


def without_loads(comparison: Comparison) -> Comparison:
    """The comparison in a form that another process can be sent."""
    world = comparison.world
    bare = SimulatedWorld(
        world.name, (), world.seconds, world.slots, world.start_seconds, steady_from=world.steady_from
    )
    return replace(comparison, world=bare)


def _world(name: str, loads: tuple[Load, ...], seconds: float, slots: int, start: float) -> SimulatedWorld:
    return SimulatedWorld(name, loads, seconds, slots, start)


def _steady(make: Callable[[float, RunTime], Load]) -> Callable[[str, RunTime, int, float], SimulatedWorld]:
    def world(name: str, run_time: RunTime, slots: int, start: float) -> SimulatedWorld:
        warm = _WARM_UP + 3 * run_time.mean
        hours = 2 if run_time.mean >= 60 else 1
        made = (make(SLOTS[slots], run_time),)
        return SimulatedWorld(name, made, warm + hours * _HOUR, slots, start, steady_from=warm)

    return world


def _lively(make: Callable[[float, RunTime], Load]) -> Callable[[str, RunTime, int, float], SimulatedWorld]:
    def world(name: str, run_time: RunTime, slots: int, start: float) -> SimulatedWorld:
        return _world(name, (make(SLOTS[slots], run_time),), _HOUR, slots, start)

    return world


def _tasks_at_once(slots: int, run_time: RunTime) -> int:
    """A minute's work of the slots that the load keeps busy, at least a task for each slot, at most 20,000."""
    busy = SLOTS[slots]
    return int(min(20_000, max(busy, busy * 60 / run_time.mean)))


def _bursts(name: str, run_time: RunTime, slots: int, start: float) -> SimulatedWorld:
    every = max(900.0, 3 * run_time.mean)
    made = load.bursts(_tasks_at_once(slots, run_time), run_time, every=every, until=_HOUR - 300)
    return _world(name, (made,), _HOUR, slots, start)


def _flood(name: str, run_time: RunTime, slots: int, start: float) -> SimulatedWorld:
    return _world(name, (load.delayed_flood(_tasks_at_once(slots, run_time), run_time),), 2400.0, slots, start)


_LOADS: dict[str, Callable[[str, RunTime, int, float], SimulatedWorld]] = {
    "step": _steady(load.step),
    "Poisson": _steady(load.poisson),
    "ramp": _lively(load.ramp),
    "sine": _lively(load.sine),
    "on/off": _lively(load.on_off),
    "bursts": _bursts,
    "delayed flood": _flood,
}


def _faults() -> list[SimulatedWorld]:
    half, five = RunTime(0.5), RunTime(5.0)
    steady = (load.poisson(40.0, half),)
    return [
        SimulatedWorld(
            "starts fail for 5 min, 0.5 s, 8 slots", steady, _HOUR, 8, 10.0,
            SimulatedFaults(failing_starts=((0.0, 300.0),)), steady_from=_WARM_UP,
        ),
        SimulatedWorld(
            "samples lost for 2 min, 0.5 s, 8 slots", steady, _HOUR, 8, 10.0,
            SimulatedFaults(lost_samples=((1200.0, 1320.0),)), steady_from=_WARM_UP,
        ),
        SimulatedWorld(
            "a purge of a burst, 0.5 s, 8 slots", (load.bursts(9600, half, until=1000.0),), 2400.0, 8, 10.0,
            SimulatedFaults(purges=(100.0,)),
        ),
        SimulatedWorld(
            "at most 10 at once, 5 s, 8 slots", (load.on_off(8.0, five, on=600.0, off=600.0),), _HOUR, 8, 10.0,
            concurrency=10,
        ),
        SimulatedWorld(
            "change of mix 5 s → 0.05 s, 8 slots", load.change_of_mix(40.0, five, RunTime(0.05)), 1800.0, 8, 10.0,
        ),
    ]  # fmt: skip
