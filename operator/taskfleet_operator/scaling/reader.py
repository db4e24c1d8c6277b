"""Reads the queues of one Redis and one prefix for all TaskQueues that use it: together when they ask together."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import BrokerConnectionError, TaskQueueError
from taskfleet.protocol.figures import Figures, Horizons
from taskfleet.protocol.worker_info import WorkerInfo, serving

from .listener import QueueListener
from .sampling import Reading, by_name

logger = showing.logger("taskfleet.scaling")

_GATHER_SECONDS = 0.005  # loops that wake at the same time ask within so long
_TOGETHER = 10  # requests that are answered at once; then others get their turn
_PAUSE_SECONDS = 0.01  # between two such groups, so that a wake never waits for all decisions of a poll
_WORKERS_SECONDS = 5.0  # for so long a look at the queues alone may use the heartbeats of an earlier one


class ReadableBroker(Protocol):
    """The method of `taskfleet.redis.broker.RedisBroker` that the reader uses."""

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures: ...


@dataclass(eq=False)
class _Request:
    horizons: Mapping[str, Horizons]
    workers: bool
    answer: asyncio.Future[Reading] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class QueuesReader:
    """One reading for all that ask at the same time, and one clock for their polls, so that they do.

    `urgent` requests have a lane of their own: the queue that a wake is about is read at once, while a poll of five
    hundred others is on its way. No request waits longer than `seconds`. A queue whose keys cannot be read fails the
    requests for that queue alone.
    """

    def __init__(self, broker: ReadableBroker, listener: QueueListener, *, seconds: float = 10.0) -> None:
        self._broker = broker
        self._listener = listener
        self._seconds = seconds
        self._phase = random.random() * 60  # polls of several Redis servers are spread
        self._lanes = {urgent: _Lane(self._answer, urgent=urgent) for urgent in (False, True)}
        self._workers: tuple[float, Mapping[str, Sequence[WorkerInfo]], Mapping[str, int]] | None = None
        self._left: set[asyncio.Task[Any]] = set()
        self.read_seconds = self.read_seconds_total = 0.0
        """How long the last successful reading took."""
        self.reads = self.failures = self.skipped = 0

    def next_poll(self, now: float, interval: float) -> float:
        """The time of the next poll on the monotonic clock: the same for all loops with this interval."""
        return self._phase + interval * (math.floor((now - self._phase) / interval + 1e-6) + 1)

    async def read(self, horizons: Mapping[str, Horizons], *, urgent: bool = False, workers: bool = True) -> Reading:
        """The figures of these queues. Without `workers` the heartbeats may be some seconds old (`Reading.fresh`).

        Raises BrokerConnectionError when Redis does not answer in time, and whatever else the broker raises.
        """
        request = _Request(horizons, workers)
        self._lanes[urgent].add(request)
        try:
            async with asyncio.timeout(self._seconds + _PAUSE_SECONDS * len(self._lanes[urgent].waiting) + 1.0):
                return await request.answer
        except TimeoutError:
            raise BrokerConnectionError(f"Redis has not answered within {self._seconds:g} s") from None

    async def close(self) -> None:
        """End what is being read. The broker is its owner's to close."""
        tasks = [*self._left, *(lane.task for lane in self._lanes.values() if lane.task is not None)]
        await end(tasks)

    async def _answer(self, batch: Sequence[_Request]) -> None:
        """Read for all of the batch."""
        horizons = {name: pair for request in batch for name, pair in request.horizons.items()}
        workers = any(request.workers for request in batch)
        began = time.monotonic()
        try:
            reading, failures = await self._read(horizons, workers=workers)
        except Exception as error:
            self.failures += 1
            await _tell(batch, error)
            return
        self.reads += 1
        self.read_seconds = time.monotonic() - began
        self.read_seconds_total += self.read_seconds
        self._listener.compare(reading.stats)
        await _tell(batch, reading, failures)

    async def _read(
        self, horizons: Mapping[str, Horizons], *, workers: bool
    ) -> tuple[Reading, Mapping[str, TaskQueueError]]:
        """What was read, and the queues that could not be."""
        now = time.monotonic()
        known = self._workers
        fresh = workers or known is None or now - known[0] > _WORKERS_SECONDS
        figures = await self._bounded(self._broker.figures(horizons, workers=fresh))
        self.skipped += figures.skipped
        self.failures += len(figures.failures)
        if fresh or known is None:
            known = self._workers = (now, by_name(figures.workers), serving(figures.workers))
        age = 0.0 if fresh else now - known[0]
        reading = Reading(figures.stats, known[1], fresh=fresh, workers_age_seconds=age, serving=known[2])
        return reading, figures.failures

    async def _bounded(self, call: Any) -> Figures:
        """The result of a call. One that takes too long is left behind: the Redis client can lose a cancellation."""
        task: asyncio.Task[Figures] = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait([task], timeout=self._seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return task.result()
        ending = asyncio.ensure_future(end([task]))
        self._left.add(ending)
        ending.add_done_callback(self._left.discard)
        raise BrokerConnectionError(f"Redis has not answered within {self._seconds:g} s")


class _Lane:
    """Requests that wait, and the task that answers them batch by batch."""

    def __init__(self, answer: Any, *, urgent: bool) -> None:
        self.waiting: list[_Request] = []
        self.task: asyncio.Task[None] | None = None
        self._answer = answer
        self._urgent = urgent

    def add(self, request: _Request) -> None:
        self.waiting.append(request)
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        while self.waiting:
            await asyncio.sleep(0 if self._urgent else _GATHER_SECONDS)
            if batch := self._next():
                await self._answer(batch)

    def _next(self) -> list[_Request]:
        """All requests that can be read together: a queue has one pair of horizons in a reading."""
        batch: list[_Request] = []
        later: list[_Request] = []
        horizons: dict[str, Horizons] = {}
        for request in self.waiting:
            if request.answer.done():
                continue  # its loop has ended, or has given up
            fits = all(horizons.get(name, pair) == pair for name, pair in request.horizons.items())
            (batch if fits else later).append(request)
            if fits:
                horizons |= request.horizons
        self.waiting = later
        return batch


async def _tell(
    batch: Sequence[_Request],
    answer: Reading | Exception,
    failures: Mapping[str, TaskQueueError] = MappingProxyType({}),
) -> None:
    for number, request in enumerate(batch):
        if number and number % _TOGETHER == 0:
            await asyncio.sleep(_PAUSE_SECONDS)
        if request.answer.done():
            continue
        failed = next((failures[name] for name in request.horizons if name in failures), None)
        if failed is not None:
            request.answer.set_exception(failed)
        elif isinstance(answer, Reading):
            request.answer.set_result(answer)
        else:
            request.answer.set_exception(answer)
