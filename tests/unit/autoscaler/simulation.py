"""A simulated fleet: arrivals, workers with a start latency, and the real decision that closes the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from taskfleet_operator.autoscaler import FleetSample, QueueSample, ScalingDecision, ScalingState, decide
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec


@dataclass
class Fleet:
    """Fluid tasks of `service` seconds on replicas of `slots` slots that start `latency` seconds after the decision."""

    spec: AutoscalerSpec
    service: float
    latency: float
    slots: int = 8
    backlog: float = 0.0
    enqueued: float = 0.0
    finished: float = 0.0
    oldest: list[tuple[float, float]] = field(default_factory=list)
    births: list[float] = field(default_factory=list)
    decisions: list[ScalingDecision] = field(default_factory=list)

    def run(self, arrivals: Callable[[float], float], seconds: int, *, step: float = 0.5) -> list[int]:
        """Desired replicas at every poll."""
        state = ScalingState.initial(0, 0.0)
        poll = self.spec.poll_interval_seconds
        counts: list[int] = []
        for tick in range(int(seconds / step)):
            now = tick * step
            self._work(arrivals(now) * step, now, step)
            if now % poll == 0:
                decision = decide(self._sample(now), state, self.spec, now)
                state = decision.state
                self._scale(decision.desired, now)
                self.decisions.append(decision)
                counts.append(decision.desired)
        return counts

    def _ready(self, now: float) -> int:
        return sum(born + self.latency <= now for born in self.births)

    def _work(self, arrived: float, now: float, step: float) -> None:
        self.enqueued += arrived
        self.backlog += arrived
        done = min(self.backlog, self._ready(now) * self.slots * step / self.service)
        self.backlog -= done
        self.finished += done
        self.oldest.append((now, self.enqueued))
        while len(self.oldest) > 1 and self.oldest[0][1] <= self.finished + 1e-9:
            self.oldest.pop(0)

    def _sample(self, now: float) -> FleetSample:
        ready = self._ready(now)
        waiting = round(self.backlog)
        busy = min(ready, round(self.backlog / self.slots + 0.5)) if waiting else 0
        queue = QueueSample(
            name="default",
            backlog=waiting,
            oldest_age_seconds=now - self.oldest[0][0] if waiting else 0.0,
            runnable_total=round(self.enqueued),
            attempts_total=int(self.finished),
            busy_ms_total=int(int(self.finished) * self.service * 1000),
        )
        return FleetSample(
            queues=(queue,),
            workers_registered=ready,
            busy_workers=busy,
            current_replicas=len(self.births),
            ready_replicas=ready,
            pending_replicas=len(self.births) - ready,
            slots_per_replica=self.slots,
            start_latency_seconds=self.latency,
        )

    def _scale(self, desired: int, now: float) -> None:
        while len(self.births) < desired:
            self.births.append(now)
        while len(self.births) > desired:
            self.births.pop()


def reversals(counts: list[int]) -> int:
    """How many times the fleet changed from growing to shrinking or back."""
    moves = [after - before for before, after in itertools.pairwise(counts) if after != before]
    return sum((before > 0) != (after > 0) for before, after in itertools.pairwise(moves))
