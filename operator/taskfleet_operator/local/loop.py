"""The local control loop: look, decide, apply; at once when a queue wakes, else at every poll."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from dataclasses import replace

from taskfleet import showing
from taskfleet.errors import BrokerConnectionError, ConfigurationError
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ..autoscaler import FleetSample, ScalingDecision, ScalingState, decide
from ..sampling import Reading, sample
from .plan import LocalPlan
from .process_fleet import LocalFleet
from .view import Picture, QueueRow, View, WorkerRow

logger = showing.logger("taskfleet.up")

_TICK_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_CLOSEST_DECISIONS_SECONDS = 0.2


@contextlib.contextmanager
def _going_on() -> Generator[None]:
    """What goes wrong in one look does not end the fleet; a mistake of the application does, and a closed stdout."""
    try:
        yield
    except BrokerConnectionError:
        pass  # the sample has said so
    except (ConfigurationError, OSError):
        raise
    except Exception:
        logger.exception("a look at the queues met an error; the fleet goes on")


class ControlLoop:
    """Runs one plan until `stop` is set. Does not end the workers; that is the caller's."""

    def __init__(self, plan: LocalPlan, broker: RedisBroker, fleet: LocalFleet, view: View, redis_url: str) -> None:
        self.plan = plan
        self.decision: ScalingDecision | None = None
        self.peak = 0
        self._broker = broker
        self._fleet = fleet
        self._view = view
        self._title = f"{plan.name}  {redis_url}"
        self._wake = asyncio.Event()
        self._state = ScalingState.initial(0, time.monotonic())

    async def run(self, stop: asyncio.Event) -> None:
        listener = asyncio.create_task(supervise("the listener for work", self._listen))
        try:
            await self._run(stop)
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    async def _listen(self) -> None:
        async for _ in self._broker.activity():
            self._wake.set()

    async def _run(self, stop: asyncio.Event) -> None:
        next_poll = next_look = last_decision = float("-inf")
        while not stop.is_set():
            now = time.monotonic()
            woken = self._wake.is_set() and now - last_decision >= _CLOSEST_DECISIONS_SECONDS
            reading = None
            # Redis may go away at any step. What was not done then is done at a later look.
            with _going_on():
                if woken or now >= next_poll:
                    self._wake.clear()
                    last_decision, next_poll = now, now + self.plan.autoscaler.poll_interval_seconds
                    next_look = now + _LOOK_SECONDS
                    reading = await self._decide(now)
                elif now >= next_look or self._fleet.leaving or self._is_starting():
                    next_look = now + _LOOK_SECONDS
                    reading = (await self._look())[1]
            with _going_on():
                await self._fleet.tend(reading)
            self.peak = max(self.peak, self._fleet.replicas)
            if reading is not None:
                self._view.picture(self._picture(reading))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait() if not self._wake.is_set() else stop.wait(), _TICK_SECONDS)

    def _is_starting(self) -> bool:
        counts = self._fleet.counts()
        return counts.ready < counts.current

    async def _look(self) -> tuple[FleetSample, Reading | None]:
        return await sample(
            self._broker,
            self.plan.queues,
            self._fleet.counts(),
            self.plan.autoscaler,
            slots_per_replica=self.plan.slots_per_replica,
            start_latency_seconds=self._fleet.start_latency_seconds,
            overrides=self.plan.overrides,
        )

    async def _decide(self, now: float) -> Reading | None:
        seen, reading = await self._look()
        decision = decide(seen, self._state, self.plan.autoscaler, now)
        self._state = decision.state
        if self.plan.autoscaler.mode == "Disabled" and decision.reason != "Suspended":
            decision = replace(
                decision, desired=self.plan.replicas, reason="Disabled", message="spec.replicas", limited_by=""
            )
        if self.decision is None or decision.desired != self.decision.desired or not decision.changed:
            self._view.decided(decision)
        self.decision = decision
        # Without a reading nobody can be chosen to go, but a fallback may still ask for more.
        if self.plan.autoscaler.mode != "Recommend" and (reading is not None or decision.desired > decision.current):
            known = reading or Reading({}, {}, ())
            await self._fleet.scale(decision.desired, known, drain_busy=decision.drains_busy)
        return reading

    def _picture(self, reading: Reading) -> Picture:
        known = {worker.name: worker for worker in reading.workers}
        rows: list[WorkerRow] = []
        for worker in self._fleet.workers.values():
            info = known.get(worker.name)
            state = "draining" if worker.ending else info.state if info else "starting"
            rows.append(
                WorkerRow(worker.name, state, info.busy if info else 0, self.plan.slots_per_replica, worker.age_seconds)
            )
        return Picture(
            title=self._title,
            replicas=self._fleet.replicas,
            maximum=self.plan.autoscaler.max_replicas,
            queues=[
                QueueRow(
                    queue.name,
                    reading.stats[queue.name].ready,
                    reading.stats[queue.name].in_flight,
                    reading.stats[queue.name].delayed,
                    reading.stats[queue.name].dead,
                    reading.stats[queue.name].oldest_age_seconds,
                    reading.stats[queue.name].finished_total,
                )
                for queue in self.plan.queues
            ],
            workers=rows,
            decision=self.decision,
        )
