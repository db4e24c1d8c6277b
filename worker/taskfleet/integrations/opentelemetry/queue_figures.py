"""The figures of queues as observable gauges: Redis is read when an exporter collects, and at no other time."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider

from taskfleet import showing, sync
from taskfleet.integrations.opentelemetry import conventions
from taskfleet.protocol.stats import QueueStats

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

logger = showing.logger("taskfleet.opentelemetry")

_SECONDS = 5.0  # for reading the figures
_FRESH_SECONDS = 1.0  # the gauges of one collection share a reading
_MOST_QUEUES = 500  # of one TaskQueue, with labels of their own

_GAUGES: tuple[tuple[str, str, str, Callable[[QueueStats], float]], ...] = (
    ("ready", "{task}", "Tasks that wait for a worker.", lambda stats: stats.ready),
    ("running", "{task}", "Tasks that are claimed.", lambda stats: stats.in_flight),
    ("delayed", "{task}", "Tasks that wait for their time.", lambda stats: stats.delayed),
    ("blocked", "{task}", "Tasks that wait for other tasks.", lambda stats: stats.blocked),
    ("dead", "{task}", "Dead letters.", lambda stats: stats.dead),
    ("oldest_age", "s", "How long the oldest ready task has waited.", lambda stats: stats.oldest_age_seconds),
)

# An instrument exists once in each provider, whatever number of queues it observes.
_observers: weakref.WeakKeyDictionary[MeterProvider, _Observer] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def observe(queue: TaskQueue, provider: MeterProvider | None, meter: Meter) -> None:
    """Report the figures of all queues in the Redis of `queue`, for as long as it is referenced elsewhere."""
    provider = provider or get_meter_provider()
    with _lock:
        if (observer := _observers.get(provider)) is None:
            observer = _observers[provider] = _Observer()
            observer.register(meter)
        observer.queues.add(queue)


class _Observer:
    def __init__(self) -> None:
        self.queues: weakref.WeakSet[TaskQueue] = weakref.WeakSet()
        self._reading = threading.Lock()
        self._read: dict[str, QueueStats] = {}
        self._at = -_FRESH_SECONDS

    def register(self, meter: Meter) -> None:
        for name, unit, description, figure in _GAUGES:
            meter.create_observable_gauge(
                f"taskfleet.queue.{name}", [_callback(self, figure)], unit=unit, description=description
            )

    def figures(self) -> dict[str, QueueStats]:
        """The figures by queue; a Redis that cannot be read has none."""
        with self._reading:
            if time.monotonic() - self._at < _FRESH_SECONDS:
                return self._read
            found: dict[str, QueueStats] = {}
            for queue in list(self.queues):
                try:
                    found |= sync.run(lambda queue=queue: _read(queue), instead="get_metrics()")  # type: ignore[misc]
                except Exception as error:
                    logger.debug("the figures of queues are not reported: %s", error)
            self._read, self._at = found, time.monotonic()
            return found


def _callback(
    observer: _Observer, figure: Callable[[QueueStats], float]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for name, stats in observer.figures().items():
            labels = {conventions.SYSTEM: conventions.TASKFLEET, conventions.DESTINATION: name}
            yield Observation(figure(stats), labels)

    return observe


async def _read(queue: TaskQueue) -> dict[str, QueueStats]:
    async with asyncio.timeout(_SECONDS):
        found = await queue.get_metrics()
    return {showing.shown(name): found[name] for name in sorted(found)[:_MOST_QUEUES]}
