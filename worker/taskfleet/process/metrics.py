"""The Prometheus metrics of one worker, computed when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet import foreign
from taskfleet.runtime.recording.rejections import Rejections
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.tally import Tally
from taskfleet.runtime.worker import Worker
from taskfleet.showing import shown


class WorkerCollector(Collector):
    """Converts the counters of a worker's parts, which are plain integers, into metrics at each scrape."""

    def __init__(
        self,
        tally: Tally,
        slots: Slots,
        held: Held,
        health: Health,
        stopping: Stopping,
        rejections: Rejections,
        skipped: foreign.Skipped | None,
    ) -> None:
        self._tally = tally
        self._slots = slots
        self._held = held
        self._health = health
        self._stopping = stopping
        self._rejections = rejections
        self._skipped = skipped

    @classmethod
    def of(cls, worker: Worker) -> WorkerCollector:
        """The collector for one worker. It must be called on the worker's loop."""
        return cls(
            worker.tally,
            worker.slots,
            worker.held,
            worker.health,
            worker.stopping,
            worker.rejections,
            getattr(worker.sessions.broker, "skipped", None),
        )

    def collect(self) -> Iterator[Metric]:
        yield from self._tasks()
        yield from self._worker()
        yield from self._unreadable()

    def _tasks(self) -> Iterator[Metric]:
        tasks = CounterMetricFamily("taskfleet_tasks", "Ended tasks by outcome.", labels=["queue", "outcome"])
        for (queue, name), count in self._tally.outcomes().items():
            tasks.add_metric([_label(queue), name], count)
        yield tasks
        busy = CounterMetricFamily("taskfleet_task_busy_seconds", "Seconds that tasks ran.", labels=["queue"])
        for queue, seconds in self._tally.busy_seconds.copy().items():
            busy.add_metric([_label(queue)], seconds)
        yield busy
        yield CounterMetricFamily(
            "taskfleet_lost_acks",
            "Outcomes of tasks that had been taken from the worker, or of which Redis knew nothing.",
            value=self._tally.lost_acks,
        )

    def _worker(self) -> Iterator[Metric]:
        running, ready = len(self._slots.running), float(self._health.ready)
        yield GaugeMetricFamily("taskfleet_worker_slots", "Tasks that can run at a time.", value=self._slots.total)
        yield GaugeMetricFamily("taskfleet_worker_running", "Tasks that run now.", value=running)
        yield GaugeMetricFamily(
            "taskfleet_worker_leases", "Leases held: running, prefetched, unrecorded.", value=len(self._held)
        )
        yield GaugeMetricFamily("taskfleet_worker_ready", "1 when the worker can take tasks.", value=ready)
        yield GaugeMetricFamily(
            "taskfleet_stuck_slots", "Slots of handlers that cannot be stopped.", value=len(self._stopping)
        )
        yield CounterMetricFamily(
            "taskfleet_stuck_handlers", "Handlers that ignored their cancellation.", value=self._stopping.total
        )

    def _unreadable(self) -> Iterator[Metric]:
        """Payloads and records that this worker cannot read."""
        unread = CounterMetricFamily(
            "taskfleet_unreadable_payloads", "Payloads that were refused, by reason.", labels=["queue", "reason"]
        )
        for (queue, reason), count in self._rejections.counts.copy().items():
            unread.add_metric([_label(queue), reason], count)
        yield unread
        waiting = GaugeMetricFamily(
            "taskfleet_newer_version_wait_seconds",
            "Seconds that the oldest task which needs a newer worker has waited.",
            labels=["queue"],
        )
        for queue, seconds in self._rejections.waiting_seconds().items():
            waiting.add_metric([_label(queue)], seconds)
        yield waiting
        foreigners = CounterMetricFamily(
            "taskfleet_foreign_records",
            "Skipped records that Taskfleet did not write.",
            labels=["kind"],
        )
        if self._skipped is not None:
            for kind, count in self._skipped.counts.copy().items():
                foreigners.add_metric([kind], count)
        yield foreigners


def _label(text: str) -> str:
    return shown(text, foreign.NAME_LIMIT)


def exposition(collector: WorkerCollector) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)
