"""The control loop of one TaskQueue: observe, decide, carry out, report.

Every rule is a pure function in `autoscaler`. Only the `Fleet` knows where the workers run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from ..autoscaler import (
    DrainingWorker,
    ScalingDecision,
    ScalingState,
    ScalingSteps,
    StartLatencies,
    cordon_seconds,
    decide,
    next_steps,
)
from .order import ScalingOrder
from .port import Fleet, Look, ScalingBroker
from .sampling import observe, registered_of

_CLOSEST_DECISIONS_SECONDS = 0.1  # a storm of wake-ups must not become a storm of reads
_DRAINING_LOOK_SECONDS = 0.5


class ScalingLoop:
    """Keeps one fleet at the size that `decide` gives. It looks at every poll, when woken, and often during a drain.

    `clock` gives the time of decisions in seconds, and never goes back.
    """

    def __init__(self, fleet: Fleet, broker: ScalingBroker, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._broker = broker
        self._clock = clock
        self._woken = asyncio.Event()
        self._state: ScalingState | None = None
        self._latencies = StartLatencies()
        self._draining: dict[str, DrainingWorker] = {}

    def use(self, broker: ScalingBroker) -> None:
        """Read and write through this broker from now on. What was learnt, and every drain, goes on."""
        self._broker = broker
        self._woken.set()

    def wake(self) -> None:
        """Decide now: a queue has work again, or a replica or the order has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled. A look that fails is followed by the next one, unless `Fleet.failed` raises."""
        next_decision = next_refresh = last = float("-inf")
        while True:
            now = time.monotonic()
            deciding = self._woken.is_set() or now >= next_decision or bool(self._draining)
            if deciding:
                if wait := max(0.0, last + _CLOSEST_DECISIONS_SECONDS - now):
                    await asyncio.sleep(wait)
                self._woken.clear()
                last = time.monotonic()
                next_decision = last + self._fleet.order().autoscaler.poll_interval_seconds
            if deciding or now >= next_refresh:
                again = float("inf")
                try:
                    again = await self._look(deciding=deciding)
                except Exception as error:
                    self._fleet.failed(error)
                now = time.monotonic()
                next_decision = min(next_decision, now + again)
                next_refresh = now + self._fleet.refresh_seconds
            until = min(next_decision, next_refresh) - time.monotonic()
            if self._draining:
                until = min(until, _DRAINING_LOOK_SECONDS)
            # `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with a wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, until)):
                    await self._woken.wait()

    async def _look(self, *, deciding: bool) -> float:
        order, replicas = self._fleet.order(), self._fleet.replicas()
        if replicas is None:
            return float("inf")
        now = self._clock()
        seen = await observe(self._broker, order, replicas, start_latency_seconds=self._latencies.percentile_90)
        decision = None
        if deciding:
            if self._state is None:
                self._state = self._fleet.initial_state(replicas.current, now)
            decision = decide(seen.sample, self._state, order.autoscaler, now)
            self._state = decision.state
        if seen.workers is not None:
            self._latencies = self._latencies.with_look(replicas.ages, registered_of(seen.workers, order.processes))
        if decision is not None:
            steps = next_steps(
                decision,
                seen.workers,
                self._draining,
                order.autoscaler,
                time.monotonic(),
                absent=replicas.absent,
                settle_seconds=self._fleet.settle_seconds,
            )
            await self._carry_out(steps, decision, order)
        return await self._fleet.tell(Look(order, replicas, seen.sample, seen.reading, seen.workers, decision))

    async def _carry_out(self, steps: ScalingSteps, decision: ScalingDecision, order: ScalingOrder) -> None:
        """Carry the steps out one by one. After a step that fails, the next look asks for the rest."""
        for name in steps.uncordon:
            self._draining.pop(name, None)
            await self._broker.uncordon(name)
        for name in steps.unmark:
            await self._fleet.unmark(name)
        for name in steps.cordon:
            await self._broker.cordon(name, ttl_seconds=cordon_seconds(order.autoscaler))
            self._draining[name] = DrainingWorker(time.monotonic())
        for name in steps.mark:
            if not await self._fleet.mark(name):
                self._draining.pop(name, None)
            elif name in self._draining and name in steps.draining:
                self._draining[name] = steps.draining[name]
        if steps.replicas != decision.current:
            await self._fleet.resize(steps.replicas, steps.removed, decision)
        kept = steps.draining.keys()
        self._draining = {name: entry for name, entry in self._draining.items() if name in kept}
