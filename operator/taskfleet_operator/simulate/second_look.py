"""A second look at a world in which a rival is much cheaper: by luck, or by knowledge?

The same world is played with other seeds, since a rival may be on target by chance. And somebody who knows the whole
load beforehand sets the smallest fleet of a fixed size that is in time: a bound for what knowledge is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .simulated_fleet import SimulatedFleet
from .simulation import Measured, SimulatedWorld, simulate

SEEDS = (1, 2, 3, 4, 5)
_MOST_TRIED = 20


@dataclass(frozen=True, slots=True)
class SecondLook:
    """With how many of the seeds ours and the rival are on target, what they cost in the mean, and the fixed fleet."""

    ours_on_target: int
    rival_on_target: int
    our_cost: float
    rival_cost: float
    fixed: Measured | None


class FixedFleet:
    """So many pods, from the first second to the last."""

    def __init__(self, pods: int) -> None:
        self.name = f"fleet of {pods}"
        self._pods = pods

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        fleet.resize(self._pods, now)
        return math.inf

    def woken(self, fleet: SimulatedFleet, now: float) -> float:
        return math.inf


def smallest_fixed(world: SimulatedWorld, allowed: float) -> Measured | None:
    """The smallest fleet of a fixed size in which 95 % of the tasks wait no longer than allowed."""
    work = sum(run.seconds for load in world.loads for run in load.arrivals(world.seconds, world.seed))
    least = max(1, math.floor(work / world.seconds / world.slots))
    tried = (simulate(world, FixedFleet(least + more)) for more in range(_MOST_TRIED))
    return next((one for one in tried if one.wait_95 <= allowed), None)
