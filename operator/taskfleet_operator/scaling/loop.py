"""The control loop of one TaskQueue: observe, decide, carry out, report.

Every rule is a pure function in `autoscaler`. Only the `Fleet` knows where the workers run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import replace

from taskfleet import showing

from ..autoscaler import (
    DrainingWorker,
    ScalingDecision,
    ScalingState,
    ScalingSteps,
    StartLatencies,
    WorkerSample,
    cordon_seconds,
    decide,
    next_steps,
)
from .order import ScalingOrder
from .port import Fleet, Look, ScalingRedis
from .sampling import Reading, Replicas, observe, registered_of
from .silent_workers import SilentWorkers

logger = showing.logger("taskfleet.scaling")

_CLOSEST_DECISIONS_SECONDS = 0.1  # a storm of wake-ups must not become a storm of reads
_DRAINING_LOOK_SECONDS = 0.5
_HANDOVER_LOOK_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 1.0  # after a look that failed, doubled with each further one; the next poll is the latest time


class ScalingLoop:
    """Keeps one fleet at the size that `decide` gives. It looks at every poll, when woken, and often during a drain.

    `clock` gives the time of decisions in seconds, and never goes back. `scaler` is the name under which decisions are
    kept in Redis, `namespace/name`; without one, none is.
    """

    def __init__(
        self, fleet: Fleet, redis: ScalingRedis, clock: Callable[[], float] = time.monotonic, *, scaler: str = ""
    ) -> None:
        self._scaler = scaler
        self._fleet = fleet
        self._redis = redis
        self._clock = clock
        self._woken = asyncio.Event()
        self._woken_at: float | None = None
        self._woken_for_work = False
        self._failures = 0
        self._state: ScalingState | None = None
        self._latencies = StartLatencies()
        self._silent = SilentWorkers(time.monotonic())
        self._draining: dict[str, DrainingWorker] = {}
        self._cordoned: set[str] = set()

    def use(self, redis: ScalingRedis) -> None:
        """Read and write through this Redis from now on. What was learnt, and every drain, goes on."""
        self._redis = redis
        self.wake()

    def wake(self, *, work: bool = False) -> None:
        """Decide now: a replica or the order has changed, or, with `work`, a queue has tasks again."""
        if self._woken_at is None:
            self._woken_at = time.monotonic()
        self._woken_for_work = work and (self._woken_for_work or not self._woken.is_set())
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled. A look that fails is followed by the next one, unless `Fleet.failed` raises."""
        next_refresh = last = float("-inf")
        next_decision = time.monotonic()
        while True:
            now = time.monotonic()
            woken = self._woken.is_set()
            deciding = woken or now >= next_decision or bool(self._draining)
            due, urgent, fresh = None, False, True
            if deciding:
                if wait := max(0.0, last + _CLOSEST_DECISIONS_SECONDS - now):
                    await asyncio.sleep(wait)
                polling = time.monotonic() >= next_decision
                due = min(next_decision, self._woken_at or float("inf")) if woken or polling else time.monotonic()
                urgent = woken or not polling
                fresh = polling or bool(self._draining) or not (woken and self._woken_for_work)
                self._woken.clear()
                self._woken_at, self._woken_for_work = None, False
                last = time.monotonic()
                if polling or next_decision - last > self._fleet.order().autoscaler.poll_interval_seconds:
                    next_decision = self._redis.next_poll(last, self._fleet.order().autoscaler.poll_interval_seconds)
            if deciding or now >= next_refresh:
                again = float("inf")
                try:
                    again = await self._look(due=due, urgent=urgent, fresh=fresh)
                    self._failures = 0
                except Exception as error:
                    self._fleet.failed(error)
                    again = _FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 10)
                    self._failures += 1
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

    async def _look(self, *, due: float | None, urgent: bool = False, fresh: bool = True) -> float:
        """Look, and decide when that was `due` at some time. Without `fresh` heartbeats no replica is taken away."""
        order, replicas = self._fleet.order(), self._fleet.replicas()
        if replicas is None:
            return float("inf")
        latency = self._latencies.percentile_90
        seen = await observe(
            self._redis,
            order,
            replicas,
            start_latency_seconds=latency,
            urgent=urgent,
            workers=fresh,
            silent=self._silent,
        )
        now, decision, again = self._clock(), None, float("inf")
        refused: Exception | None = None
        before, decided = self._state, 0
        if due is not None:
            if before is None:
                before = self._fleet.initial_state(replicas.current, now)
            decision = decide(seen.sample, before, order.autoscaler, now)
            self._state, decided = decision.state, decision.desired
            if replicas.hold:
                decision = decision.held("RolloutUnderWay", replicas.hold)
            if seen.workers is None:
                decision = self._without_cordons(decision, order, replicas)
        lag = 0.0 if due is None else max(0.0, time.monotonic() - due)
        lifted: tuple[str, ...] = ()
        fresh = seen.reading is None or seen.reading.fresh or not replicas.ages
        if seen.workers is not None and fresh:
            self._latencies = self._latencies.with_look(replicas.ages, registered_of(seen.workers, order.processes))
        if decision is not None:
            if fresh or decision.desired > decision.current:
                steps = self._steps(decision, seen.workers, replicas, order)
                if steps.waits_for:
                    waits = f"busy and not ready, so that it would go first: {', '.join(steps.waits_for)}"
                    decision = replace(decision, limited_by="BusyPodNotReady", limit_message=waits)
                try:
                    lifted = steps.uncordon
                    await self._carry_out(steps, decision, order)
                except Exception as error:
                    refused = error  # the figures are told all the same, and the reason with them
            elif decision.desired < decision.current:
                again = 0.0  # who is idle is read first
        # When all workers go, none of them takes the place of another: a handover would let new ones claim again.
        leaving = decision is not None and not decision.desired and not decision.advice
        stays = seen.workers is not None and fresh and not leaving and refused is None
        try:
            if stays and await self._fleet.hand_over(_released(seen.workers or (), lifted), self._redis):
                again = min(again, _HANDOVER_LOOK_SECONDS)
        except Exception as error:
            refused = error
        try:
            if seen.reading is not None and seen.reading.fresh:
                await self._lift_cordons_of_the_gone(replicas, seen.reading)
        except Exception as error:
            refused = refused or error
        notice = self._redis.notice
        told = (order, replicas, seen.sample, seen.reading, seen.workers, decision)
        look = Look(*told, lag, notice, refused, decided=decided, now=now, before=before)
        self._note(look)
        again = min(again, await self._fleet.tell(look))
        if refused is not None:
            raise refused
        return again

    def _note(self, look: Look) -> None:
        """Keep the decision for those who ask later why. Whatever goes wrong there disturbs no decision."""
        if not self._scaler or look.decision is None:
            return
        try:
            self._redis.note(self._scaler, look)
        except Exception:
            logger.debug("%s: a decision is not recorded", self._scaler, exc_info=True)

    def _without_cordons(self, decision: ScalingDecision, order: ScalingOrder, replicas: Replicas) -> ScalingDecision:
        """The decision while no cordon reaches a worker: a smaller number would take busy ones.

        Replicas that are ready reach Redis, which only this process does not: they work, and keep their number.
        """
        rules = order.autoscaler
        if decision.desired >= decision.current or rules.mode == "Recommend":
            return decision
        if rules.scale_down.victim_policy == "DeploymentDefault":
            return decision
        least, held = decision.current, self._silent.hold(time.monotonic(), order, replicas.ages)
        if not held and replicas.ready:
            least = decision.current if replicas.hold else min(decision.current, replicas.ready)
            held = f"Redis cannot be read, and the workers that are ready ({replicas.ready}) reach it and may be busy"
        if not held or decision.desired >= least:
            return decision
        return replace(decision, desired=least, limited_by="BusyWorkers", limit_message=held)

    def _steps(
        self,
        decision: ScalingDecision,
        workers: Sequence[WorkerSample] | None,
        replicas: Replicas,
        order: ScalingOrder,
    ) -> ScalingSteps:
        return next_steps(
            decision,
            workers,
            self._draining,
            order.autoscaler,
            time.monotonic(),
            absent=replicas.absent,
            settle_seconds=self._fleet.settle_seconds,
            together=bool(replicas.hold),
        )

    async def _lift_cordons_of_the_gone(self, replicas: Replicas, reading: Reading) -> None:
        """Delete the cordons of workers that have gone, which would stay for minutes.

        A worker that is ending keeps its cordon until its last heartbeat is gone: it must claim nothing.
        """
        for name in [one for one in self._cordoned if one not in replicas.ages and one not in reading.workers]:
            await self._redis.uncordon(name)
            self._cordoned.discard(name)

    async def _carry_out(self, steps: ScalingSteps, decision: ScalingDecision, order: ScalingOrder) -> None:
        """Carry the steps out one by one. After a step that fails, the next look asks for the rest.

        A larger number comes first: demand does not wait for calls that may take seconds for each replica. When it is
        refused, the replicas that are there get their work all the same.
        """
        refused: Exception | None = None
        if steps.replicas > decision.current:
            try:
                await self._fleet.resize(steps.replicas, (), decision)
            except Exception as error:
                refused = error
        for name in steps.uncordon:
            await self._redis.uncordon(name)
            self._draining.pop(name, None)
            self._cordoned.discard(name)
        for name in steps.unmark:
            await self._fleet.unmark(name)
            if name in self._draining:
                self._draining[name] = replace(self._draining[name], marked_at=None)
        for name in steps.cordon:
            await self._redis.cordon(name, ttl_seconds=cordon_seconds(order.autoscaler))
            self._cordoned.add(name)
            before = self._draining.get(name)
            self._draining[name] = DrainingWorker(time.monotonic(), before.marked_at if before is not None else None)
        for name in steps.mark:
            if not await self._fleet.mark(name):
                self._draining.pop(name, None)
            elif name in self._draining and name in steps.draining:
                # It counts from the end of the call, which may take as long as Kubernetes is given to see the mark.
                self._draining[name] = replace(steps.draining[name], marked_at=time.monotonic())
        if steps.replicas < decision.current:
            await self._fleet.resize(steps.replicas, steps.removed, decision)
        kept = steps.draining.keys()
        self._draining = {name: entry for name, entry in self._draining.items() if name in kept}
        if refused is not None:
            raise refused


def _released(workers: Sequence[WorkerSample], names: Container[str]) -> list[WorkerSample]:
    """The workers as the next heartbeats will show them: those of `names` claim again."""
    return [replace(one, cordoned=False, drained=False, marked=False) if one.name in names else one for one in workers]
