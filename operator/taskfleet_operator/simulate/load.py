"""What arrives: a rate that changes, chance or an even flow, tasks that come at once, and how long each runs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Rate = Callable[[float], float]

_STEP_SECONDS = 0.2
_LONGEST_BATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long tasks run: always the mean, or, with a `tail`, log-normal with this sigma around the same mean."""

    mean: float
    tail: float = 0.0

    def batch(self, chance: random.Random, count: int) -> float:
        """The seconds of `count` tasks, one after the other."""
        if not self.tail:
            return self.mean * count
        mu = math.log(self.mean) - self.tail**2 / 2
        return sum(chance.lognormvariate(mu, self.tail) for _ in range(count))


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Tasks that become ready at one time. They run one after the other in one slot, `seconds` together."""

    at: float
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Tasks per second over the time, and tasks that come at once: `together` has (time, tasks).

    `known_before`: the tasks that come together were accepted long before, with a delay, so that they are seen coming.
    """

    name: str
    rate: Rate
    run_time: RunTime
    poisson: bool = False
    together: tuple[tuple[float, int], ...] = ()
    known_before: bool = False
    recorded: tuple[float, ...] = field(default=(), repr=False)

    def arrivals(self, seconds: float, seed: int) -> Iterator[Arrivals]:
        """All arrivals, in time. Short tasks come in small batches: many thousand a second need no event each."""
        chance = random.Random(seed)
        peak = max(self.rate(at) for at in range(0, math.ceil(seconds), 5)) if seconds else 0.0
        size = max(1, min(int(_LONGEST_BATCH_SECONDS / self.run_time.mean), int(peak * _STEP_SECONDS)))
        together = list(self.together)
        recorded, position = self.recorded, 0
        arrived, enough = 0.0, self._gap(chance, size)
        for step in range(int(seconds / _STEP_SECONDS)):
            now = step * _STEP_SECONDS
            while together and together[0][0] <= now:
                count, each = together.pop(0)[1], max(1, int(_LONGEST_BATCH_SECONDS / self.run_time.mean))
                for begin in range(0, count, each):
                    some = min(each, count - begin)
                    yield Arrivals(now, some, self.run_time.batch(chance, some))
            while position < len(recorded) and recorded[position] <= now:
                yield Arrivals(now, 1, self.run_time.batch(chance, 1))
                position += 1
            arrived += self.rate(now) * _STEP_SECONDS
            while arrived >= enough:
                arrived -= enough
                enough = self._gap(chance, size)
                yield Arrivals(now, size, self.run_time.batch(chance, size))

    def _gap(self, chance: random.Random, size: int) -> float:
        """How many tasks are expected until so many have arrived."""
        return chance.gammavariate(size, 1.0) if self.poisson else float(size)

    def due(self, now: float, horizon: float) -> int:
        """Tasks known before that become ready within the horizon."""
        if not self.known_before:
            return 0
        return sum(count for at, count in self.together if now < at <= now + horizon)


def step(slots: float, run_time: RunTime, *, at: float = 60.0) -> Load:
    """Nothing, and then so many slots' worth of tasks, in an even flow."""
    return Load("step", lambda now: slots / run_time.mean if now >= at else 0.0, run_time)


def poisson(slots: float, run_time: RunTime) -> Load:
    """A steady load in which tasks arrive by chance."""
    return Load("Poisson", lambda now: slots / run_time.mean, run_time, poisson=True)


def ramp(slots: float, run_time: RunTime, *, seconds: float = 1200.0) -> Load:
    """A load that grows evenly and then stays."""
    return Load("ramp", lambda now: slots / run_time.mean * min(1.0, now / seconds), run_time, poisson=True)


def sine(slots: float, run_time: RunTime, *, period: float = 1800.0) -> Load:
    """A load that swings between nothing and twice the mean."""
    full = 2 * math.pi / period
    return Load("sine", lambda now: slots / run_time.mean * (1 - math.cos(full * now)), run_time, poisson=True)


def on_off(slots: float, run_time: RunTime, *, on: float = 60.0, off: float = 60.0) -> Load:
    """A load that is there and away by turns."""
    return Load("on/off", lambda now: slots / run_time.mean if now % (on + off) < on else 0.0, run_time, poisson=True)


def bursts(tasks: int, run_time: RunTime, *, every: float = 900.0, until: float = 3600.0) -> Load:
    """So many tasks at once, again and again."""
    times = tuple((60.0 + every * number, tasks) for number in range(int((until - 60) // every) + 1))
    return Load("bursts", lambda now: 0.0, run_time, together=times)


def delayed_flood(tasks: int, run_time: RunTime, *, at: float = 900.0) -> Load:
    """Tasks accepted with a delay that all come due at one time."""
    return Load("delayed flood", lambda now: 0.0, run_time, together=((at, tasks),), known_before=True)


def change_of_mix(slots: float, long: RunTime, short: RunTime, *, at: float = 900.0) -> tuple[Load, Load]:
    """Two loads, one after the other: the same work, first in long tasks and then in short ones."""
    first = Load("change of mix", lambda now: slots / long.mean if now < at else 0.0, long, poisson=True)
    second = Load("change of mix", lambda now: slots / short.mean if now >= at else 0.0, short, poisson=True)
    return first, second


def recorded(path: Path, run_time: RunTime) -> Load:
    """A recorded trace: a file with one time in seconds a line, at which a task became ready."""
    times = tuple(sorted(float(line) for line in path.read_text(encoding="utf-8").split() if line))
    return Load("recorded", lambda now: 0.0, run_time, recorded=times)
