"""The tally: how many tasks of a worker have ended, with which outcomes, how long they waited and how long they ran."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import NamedTuple, TypeVar

from taskfleet import tracing
from taskfleet.protocol import outcome
from taskfleet.protocol.partitions import Partition, queue_of

T = TypeVar("T")

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Upper bounds of the buckets of both histograms, in seconds: from a call of a cache to a nightly run."""

_SHORTEST = BOUNDS[0]

OTHER = "other"
"""The label of all tasks and queues beyond the most that have labels of their own."""

MOST_TASKS, MOST_QUEUES, MOST_PAIRS = 100, 100, 200


class Labels:
    """Which tasks and queues have a label of their own: the first ones, and these for good.

    So a counter never goes back, and there are at most `MOST_PAIRS` pairs of both, and one `other` more for each queue.
    """

    def __init__(self) -> None:
        self._queues: set[str] = set()
        self._tasks: set[str] = set()
        self._pairs: set[tuple[str, str]] = set()

    def queue(self, name: str) -> str:
        return _admitted(self._queues, name, MOST_QUEUES)

    def pair(self, queue: str, task: str) -> tuple[str, str]:
        """The labels of a task in a queue."""
        pair = self.queue(queue), _admitted(self._tasks, task, MOST_TASKS)
        return pair if pair in self._pairs or _admits(self._pairs, pair, MOST_PAIRS) else (pair[0], OTHER)


class Exemplar(NamedTuple):
    """One run that a bucket has counted: labels, its value in seconds, and its end as Unix time."""

    labels: dict[str, str]
    value: float
    at: float


class TaskFigures:
    """The figures of one task in one queue. A bucket counts what is in no smaller one; the last has no bound."""

    __slots__ = ("counts", "exemplars", "run_buckets", "run_seconds", "wait_buckets", "wait_seconds")

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)  # by outcome code
        self.wait_buckets = [0] * (len(BOUNDS) + 1)
        self.wait_seconds = 0.0
        self.run_buckets = [0] * (len(BOUNDS) + 1)
        self.run_seconds = 0.0
        self.exemplars: dict[int, Exemplar] = {}  # by position of the bucket, the latest of each

    def ended(self, code: str, waited: float, seconds: float | None) -> None:
        """A run has ended with this outcome code, after `seconds`; before it began, the task was ready for `waited`.

        Of a batch, one item has the seconds of the run and the others have None, so that it counts as one run. Every
        task pays for this, so the first bucket, which most fast tasks are in, is not looked for.
        """
        self.counts[code] += 1
        if waited > _SHORTEST:
            self.wait_buckets[bisect_left(BOUNDS, waited)] += 1
            self.wait_seconds += waited
        else:
            self.wait_buckets[0] += 1
            if waited > 0.0:  # less than nothing is an inaccuracy of the clocks
                self.wait_seconds += waited
        if seconds is None:
            return
        at = 0 if seconds <= _SHORTEST else bisect_left(BOUNDS, seconds)
        self.run_buckets[at] += 1
        self.run_seconds += seconds
        if (labels := tracing.exemplar()) is not None:
            self.exemplars[at] = Exemplar(labels, seconds, time.time())


class Tally:
    """The worker's loop counts; other threads may read."""

    def __init__(self) -> None:
        self.finished = 0  # runs that freed a slot: a batch is one
        self.unrun: Counter[tuple[Partition, str]] = Counter()  # ends without a run, by partition and outcome code
        self.ahead: dict[Partition, float] = {}  # s that the clock of Redis was ahead of the loop, at the last claims
        self.lost_acks = 0  # outcomes of tasks that this worker no longer held
        self.taken_over: Counter[Partition] = Counter()  # tasks that were taken over from workers that are gone
        self.tasks: dict[tuple[str, str], TaskFigures] = {}  # by the labels: queue and task
        self.labels = Labels()
        self._found: dict[tuple[Partition, str], TaskFigures] = {}

    def task(self, partition: Partition, name: str) -> TaskFigures:
        """The figures of a task that the application has, by its name."""
        found = self._found.get((partition, name))
        if found is None:
            pair = self.labels.pair(queue_of(partition), name)
            found = self._found[partition, name] = self.tasks.setdefault(pair, TaskFigures())
        return found

    @property
    def busy_seconds(self) -> float:
        """The time of all runs together."""
        return sum(figures.run_seconds for figures in self.tasks.values())

    def outcomes(self) -> dict[tuple[str, str], int]:
        """The number of ended tasks, by queue and the name of the outcome."""
        found: Counter[tuple[str, str]] = Counter()
        for (queue, _), figures in self.tasks.copy().items():
            for code, n in figures.counts.copy().items():
                found[queue, outcome.NAMES[code]] += n
        for (partition, code), n in self.unrun.copy().items():
            found[self.labels.queue(queue_of(partition)), outcome.NAMES[code]] += n
        return dict(found)


def _admitted(names: set[str], name: str, most: int) -> str:
    return name if name in names or _admits(names, name, most) else OTHER


def _admits(found: set[T], one: T, most: int) -> bool:
    if len(found) >= most:
        return False
    found.add(one)
    return True
