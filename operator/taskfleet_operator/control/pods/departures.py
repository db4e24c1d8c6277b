"""The check after a smaller number: whether the pods that went are the drained ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ...autoscaler import WorkerSample

_WATCH_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class WrongDeparture:
    """A pod that was removed in place of a drained one, and the number of tasks that it ran when last seen."""

    name: str
    busy: int

    def __str__(self) -> str:
        tasks = f"{self.busy} task{'' if self.busy == 1 else 's'}"
        return f"{self.name} was removed, with {tasks} running, although it was not drained"


class Departures:
    """Remembers the pods that the last removal was to take, and compares them with those that went.

    As many pods go as were drained. So when that many are gone and a drained one is still there, another went in its
    place.
    """

    def __init__(self) -> None:
        self._expected: frozenset[str] = frozenset()
        self._before: Mapping[str, WorkerSample] = {}
        self._until = float("-inf")
        self._seen: Mapping[str, WorkerSample] = {}

    def seen(self, workers: Iterable[WorkerSample]) -> None:
        """The workers of a look."""
        self._seen = {worker.name: worker for worker in workers}

    def expect(self, removed: Collection[str], pods: Collection[str], now: float) -> None:
        """The number changes now, and takes `removed` of these `pods`; none when it grows."""
        if not removed:
            self._expected, self._before = frozenset(), {}
            return
        # A pod that went since the last look took no other's place; those of the removal before may not have gone yet.
        self._before = {name: one for name, one in self._seen.items() if name in pods} | dict(self._before)
        self._expected |= frozenset(removed) & self._before.keys()
        self._until = now + _WATCH_SECONDS

    def wrong(self, pods: Collection[str], now: float) -> list[WrongDeparture]:
        """The pods that went in place of others, told once. `pods` are those that exist and are not being deleted."""
        gone = self._before.keys() - set(pods)
        if not self._expected or (len(gone) < len(self._expected) and now < self._until):
            return []
        spared = self._expected - gone
        others = [self._before[name] for name in sorted(gone - self._expected)]
        self._expected, self._before = frozenset(), {}
        if not spared:
            return []
        return [WrongDeparture(worker.name, worker.busy) for worker in others if worker.registered]
