"""A queue in simulated time, and the pods that take its tasks."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from .load import Arrivals


@dataclass(slots=True)
class SimulatedPod:
    """One pod. `place` is its index among the pods that have a free slot and claim, -1 when it is not among them."""

    name: str
    created: float
    number: int
    registered: bool = False
    busy: int = 0
    cordoned: bool = False
    marked: bool = False
    gone: bool = False
    idle_since: float = 0.0
    place: int = -1
    runs: set[int] = field(default_factory=set[int])


@dataclass(slots=True)
class SimulatedFaults:
    """What goes wrong: reads that fail, starts that do not end, both as (from, until), and the times of purges."""

    lost_samples: tuple[tuple[float, float], ...] = ()
    failing_starts: tuple[tuple[float, float], ...] = ()
    purges: tuple[float, ...] = ()

    def loses(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.lost_samples)

    def start_end(self, created: float, seconds: float) -> float:
        """When a pod that is created now works."""
        ready = created + seconds
        for begin, end in self.failing_starts:
            if begin <= ready < end:
                ready = end + seconds
        return ready


class SimulatedFleet:
    """The queue and the pods. `events` is the heap of the simulation: (time, number, kind, subject)."""

    END, READY, KILL = 0, 1, 2
    GRACE_SECONDS = 135.0  # the default drain timeout of a worker, and the 15 s on top of it

    def __init__(
        self,
        *,
        slots: int,
        start_seconds: float,
        seed: int,
        faults: SimulatedFaults,
        concurrency: int | None = None,
    ) -> None:
        self.slots = slots
        self.concurrency = concurrency
        self.pods: dict[str, SimulatedPod] = {}
        self.queue: deque[Arrivals] = deque()
        self.events: list[tuple[float, int, int, object]] = []
        self.running: dict[int, tuple[Arrivals, SimulatedPod, float]] = {}
        self.backlog = 0
        self.runnable = self.attempts = 0
        self.waits: list[tuple[float, int]] = []
        self.on_time = 0
        self.taken_busy = self.rerun = 0
        self.pod_seconds = self.work_seconds = 0.0
        self._start_seconds = start_seconds
        self._chance = random.Random(seed)
        self._faults = faults
        self._free: list[SimulatedPod] = []
        self._busy_seconds = self._starts = 0.0
        self._numbers = 0

    # The facts that an autoscaler may see

    @property
    def current(self) -> int:
        return len(self.pods)

    @property
    def in_flight(self) -> int:
        return len(self.running)

    @property
    def registered(self) -> int:
        return sum(pod.registered for pod in self.pods.values())

    @property
    def busy_pods(self) -> int:
        return sum(pod.busy > 0 for pod in self.pods.values())

    def busy_seconds(self, now: float) -> float:
        return self._busy_seconds + len(self.running) * now - self._starts

    def oldest_age(self, now: float) -> float:
        return max(0.0, now - self.queue[0].at) if self.queue else 0.0

    def oldest_run(self, now: float) -> float:
        return max((min(now - began, run.seconds / run.count) for run, _, began in self.running.values()), default=0.0)

    # What happens

    def arrive(self, run: Arrivals) -> bool:
        """Tasks become ready. Whether the queue was empty and no slot was free for them."""
        self.runnable += run.count
        if not self.queue and self._free and self._may_start():
            self.on_time += run.count
            self._start(run, run.at)
            return False
        first = not self.queue
        self.queue.append(run)
        self.backlog += run.count
        return first

    def end(self, number: int, now: float) -> None:
        found = self.running.pop(number, None)
        if found is None:
            return
        run, pod, began = found
        pod.runs.discard(number)
        pod.busy -= 1
        self._starts -= began
        self._busy_seconds += now - began
        self.work_seconds += run.seconds
        self.attempts += run.count
        if not pod.busy:
            pod.idle_since = now
            if pod.gone:
                self._leave(pod, now)
        if not pod.gone:
            self._offer(pod)
        self.dispatch(now)

    def ready(self, pod: SimulatedPod, now: float) -> None:
        if pod.gone:
            return
        pod.registered, pod.idle_since = True, now
        self._offer(pod)
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        while self.queue and self._free and self._may_start():
            run = self.queue.popleft()
            self.backlog -= run.count
            wait = now - run.at
            if wait > 0.5:
                self.waits.append((wait, run.count))
            else:
                self.on_time += run.count
            self._start(run, now)

    def purge(self) -> None:
        self.queue.clear()
        self.backlog = 0

    def resize(self, replicas: int, now: float, removed: tuple[str, ...] = ()) -> None:
        """The platform's work: pods are added, or taken in the order of the ReplicaSet controller."""
        while len(self.pods) < replicas:
            self._numbers += 1
            pod = SimulatedPod(f"pod-{self._numbers}", now, self._numbers)
            self.pods[pod.name] = pod
            self._push(self._faults.start_end(now, self._start_seconds), self.READY, pod)
        if len(self.pods) > replicas:
            # Not ready first, then the marked ones, then the newest.
            order = sorted(self.pods.values(), key=lambda pod: (pod.registered, not pod.marked, -pod.number))
            for pod in order[: len(self.pods) - replicas]:
                self._take(pod, now)

    def cordon(self, name: str, *, on: bool) -> None:
        pod = self.pods.get(name)
        if pod is None:
            return
        pod.cordoned = on
        if on:
            self._withdraw(pod)
        else:
            self._offer(pod)

    def kill(self, pod: SimulatedPod, now: float) -> None:
        """The grace period is over: what still runs is started again elsewhere."""
        if not pod.busy:
            return
        for number in list(pod.runs):
            run, _, began = self.running.pop(number)
            self._starts -= began
            self._busy_seconds += now - began
            self.rerun += run.count
            self.backlog += run.count
            self.queue.appendleft(Arrivals(now, run.count, run.seconds))
        pod.busy = 0
        pod.runs.clear()
        self._leave(pod, now)
        self.dispatch(now)

    def close(self, now: float) -> None:
        """The end: what still exists has cost until now, and what still waits has waited until now."""
        gone = {pod.name: pod for _, pod, _ in self.running.values() if pod.gone}
        for pod in [*self.pods.values(), *gone.values()]:
            self.pod_seconds += now - pod.created
        for run, _, began in self.running.values():
            self.work_seconds += min(run.seconds, now - began)
        self.waits += [(now - run.at, run.count) for run in self.queue]

    def _may_start(self) -> bool:
        return self.concurrency is None or len(self.running) < self.concurrency

    def _start(self, run: Arrivals, now: float) -> None:
        free = self._free
        pod = free[int(self._chance.random() * len(free))]
        pod.busy += 1
        if pod.busy >= self.slots:
            self._withdraw(pod)
        self._numbers += 1
        self.running[self._numbers] = (run, pod, now)
        pod.runs.add(self._numbers)
        self._starts += now
        heapq.heappush(self.events, (now + run.seconds, self._numbers, self.END, self._numbers))

    def _offer(self, pod: SimulatedPod) -> None:
        if pod.place < 0 and pod.registered and not pod.cordoned and not pod.gone and pod.busy < self.slots:
            pod.place = len(self._free)
            self._free.append(pod)

    def _withdraw(self, pod: SimulatedPod) -> None:
        if pod.place >= 0:
            last = self._free.pop()
            if last is not pod:
                self._free[pod.place] = last
                last.place = pod.place
            pod.place = -1

    def _take(self, pod: SimulatedPod, now: float) -> None:
        del self.pods[pod.name]
        pod.gone = True
        self._withdraw(pod)
        if pod.busy:
            self.taken_busy += 1
            self._push(now + self.GRACE_SECONDS, self.KILL, pod)
        else:
            self._leave(pod, now)

    def _leave(self, pod: SimulatedPod, now: float) -> None:
        self.pod_seconds += now - pod.created

    def _push(self, at: float, kind: int, subject: object) -> None:
        self._numbers += 1
        heapq.heappush(self.events, (at, self._numbers, kind, subject))
