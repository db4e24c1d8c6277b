"""The recommendation for each trigger, kept current while KEDA asks for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import BrokerConnectionError, TaskQueueError
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ..autoscaler import ScalingState, decide
from ..autoscaler.activity import activation
from ..scaling.sampling import Reading, Replicas, build, by_name, horizons_of, workers_of
from .trigger import Trigger

logger = showing.logger("taskfleet.keda")

MOST_TRIGGERS = 1000
_KEPT_SECONDS = 900.0  # a trigger for which nobody asks any more is forgotten; KEDA asks at least every pollingInterval
_CLOSEST_READS_SECONDS = 0.1
_STALE_POLLS, _READ_SECONDS = 2.0, 20.0  # a recommendation of longer ago is none: its read hangs


@dataclass(frozen=True, slots=True)
class ToldRecommendation:
    """Whether the workload has work, and the replicas that it needs. `failure` is why they are not known."""

    active: bool
    replicas: float
    message: str
    failure: str = ""


class TooManyTriggersError(TaskQueueError):
    """More triggers ask for recommendations than one scaler keeps."""


class _Watched:
    """One trigger: reads its queues at every poll, and at once when a queue has work again."""

    def __init__(self, trigger: Trigger, broker: RedisBroker, clock: Callable[[], float]) -> None:
        self.trigger = trigger
        self.latest: ToldRecommendation | None = None
        self.asked_at = self.read_at = clock()
        self.streams = 0
        self._broker = broker
        self._clock = clock
        self._state: ScalingState | None = None
        self._woken = asyncio.Event()
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(supervise("the reader of a trigger", self._run))

    def wake(self) -> None:
        self._woken.set()

    async def after(self, known: ToldRecommendation | None) -> ToldRecommendation:
        """The first recommendation that is another object than `known`."""
        async with self._news:
            await self._news.wait_for(lambda: self.latest is not None and self.latest is not known)
            assert self.latest is not None
            return self.latest

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            latest = await self._read()
            async with self._news:
                self.latest, self.read_at = latest, self._clock()
                self._news.notify_all()
            await asyncio.sleep(_CLOSEST_READS_SECONDS)
            try:
                async with asyncio.timeout(self.trigger.order.autoscaler.poll_interval_seconds):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _read(self) -> ToldRecommendation:
        order, now = self.trigger.order, self._clock()
        names = [target.name for target in order.queues]
        try:
            figures = await self._broker.figures(horizons_of(order, None))
            for error in figures.failures.values():
                raise error
        except Exception as error:  # whatever it is, KEDA gets an error, and its fallback applies
            if not isinstance(error, (TaskQueueError, OSError, TimeoutError)):
                logger.debug("a read of %s met an error", ", ".join(names), exc_info=error)  # KEDA tells its text
            return ToldRecommendation(False, 0.0, "", showing.shown(str(error), 300) or type(error).__name__)
        reading = Reading(figures.stats, by_name(figures.workers))
        serving = {worker.name for worker in figures.workers if set(worker.queues) & set(names)}
        replicas = Replicas(len(serving), len(serving), 0, ages=dict.fromkeys(serving, math.inf))
        sample = build(reading, order, replicas, workers_of(reading, replicas))
        state = self._state or ScalingState.initial(len(serving), now)
        decision = decide(sample, state, order.autoscaler, now)
        self._state = decision.state
        wanted = decision.terms["recommended_replicas"]
        if decision.panicking:
            wanted = max(wanted, decision.terms["panic_replicas"])
        active = bool(activation(sample, order.autoscaler))
        if decision.reason == "SuspectSample" or now < decision.state.hold_until:
            # A failover may have lost what the workers have. KEDA takes none of them away for a window.
            wanted, active = max(wanted, float(len(serving))), active or bool(serving)
        return ToldRecommendation(active, wanted, decision.message)


class Recommendations:
    """The recommendations of all triggers that share one Redis. `connect(prefix)` gives a broker for a key prefix."""

    def __init__(self, connect: Callable[[str], RedisBroker], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._clock = clock
        self._watched: dict[Trigger, _Watched] = {}
        self._brokers: dict[str, tuple[RedisBroker, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def now(self, trigger: Trigger) -> ToldRecommendation:
        """The last recommendation, which is at most a poll interval old. `BrokerConnectionError`: it is not known."""
        watched = self._of(trigger)
        latest = watched.latest or await watched.after(None)
        silent = self._clock() - watched.read_at
        if silent > _STALE_POLLS * trigger.order.autoscaler.poll_interval_seconds + _READ_SECONDS:
            raise BrokerConnectionError(f"Redis has not answered for {silent:.0f} s")
        if latest.failure:
            raise BrokerConnectionError(latest.failure)
        return latest

    async def activity(self, trigger: Trigger) -> AsyncIterator[bool]:
        """Whether there is work: now, and whenever that changes. Nothing while it is not known."""
        watched = self._of(trigger)
        watched.streams += 1
        try:
            latest, told = watched.latest, None
            while True:
                if latest is not None and not latest.failure and latest.active != told:
                    told = latest.active
                    yield told
                latest = await watched.after(latest)
        finally:
            watched.streams -= 1

    async def close(self) -> None:
        await end([watched.task for watched in self._watched.values()])
        await end([listener for _, listener in self._brokers.values()])
        await asyncio.gather(*self._ending)
        for broker, _ in self._brokers.values():
            await broker.close()
        self._watched.clear()
        self._brokers.clear()

    def _of(self, trigger: Trigger) -> _Watched:
        now = self._clock()
        watched = self._watched.get(trigger)
        if watched is None:
            self._forget(now)
            if len(self._watched) >= MOST_TRIGGERS:
                raise TooManyTriggersError(f"{MOST_TRIGGERS} triggers are in use; run another scaler for the others")
            watched = self._watched[trigger] = _Watched(trigger, self._broker(trigger.key_prefix), self._clock)
        watched.asked_at = now
        return watched

    def _forget(self, now: float) -> None:
        for trigger, watched in list(self._watched.items()):
            if not watched.streams and now - watched.asked_at > _KEPT_SECONDS:
                del self._watched[trigger]
                self._end(end([watched.task]))
        for prefix in self._brokers.keys() - {trigger.key_prefix for trigger in self._watched}:
            self._end(_closed(*self._brokers.pop(prefix)))

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _broker(self, prefix: str) -> RedisBroker:
        known = self._brokers.get(prefix)
        if known is None:
            broker = self._connect(prefix)
            listener = asyncio.create_task(supervise("the listener for work", lambda: self._listen(prefix, broker)))
            known = self._brokers[prefix] = (broker, listener)
        return known[0]

    async def _listen(self, prefix: str, broker: RedisBroker) -> None:
        async for queue in broker.activity():
            for watched in self._watched.values():
                names = {target.name for target in watched.trigger.order.queues}
                if watched.trigger.key_prefix == prefix and (not queue or queue in names):
                    watched.wake()


async def _closed(broker: RedisBroker, listener: asyncio.Task[None]) -> None:
    await end([listener])
    await broker.close()
