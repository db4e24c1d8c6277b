"""A worker's own figures for Prometheus, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taskfleet import foreign
from taskfleet.showing import shown

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker


class WorkerCollector(Collector):
    """The hot path counts in plain integers; here they become metrics."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        worker = self._worker
        tasks = CounterMetricFamily("taskfleet_tasks", "Tasks by how their run ended.", labels=["queue", "outcome"])
        for (queue, name), count in worker.execution.outcomes().items():
            tasks.add_metric([_label(queue), name], count)
        yield tasks
        busy = CounterMetricFamily("taskfleet_task_busy_seconds", "Time that tasks ran.", labels=["queue"])
        for queue, seconds in worker.execution.busy_seconds.copy().items():
            busy.add_metric([_label(queue)], seconds)
        yield busy
        yield GaugeMetricFamily("taskfleet_worker_slots", "Tasks that can run at a time.", value=worker.slots)
        yield GaugeMetricFamily("taskfleet_worker_running", "Tasks that run now.", value=len(worker.running))
        yield GaugeMetricFamily(
            "taskfleet_worker_leases", "Leases held: running, prefetched, unrecorded.", value=len(worker.held)
        )
        yield GaugeMetricFamily("taskfleet_worker_ready", "1 when it can take work.", value=float(worker.ready))
        yield GaugeMetricFamily(
            "taskfleet_stuck_slots", "Slots of handlers that cannot be stopped.", value=len(worker.stopping)
        )
        yield CounterMetricFamily(
            "taskfleet_stuck_handlers", "Handlers that ignored their cancellation.", value=worker.stopping.total
        )
        intake = worker.execution.intake
        unread = CounterMetricFamily(
            "taskfleet_unreadable_payloads", "Payloads that were refused, by why.", labels=["queue", "reason"]
        )
        for (queue, reason), count in intake.counts.copy().items():
            unread.add_metric([_label(queue), reason], count)
        yield unread
        waiting = GaugeMetricFamily(
            "taskfleet_newer_version_wait_seconds",
            "How long the oldest task that needs a newer worker has waited.",
            labels=["queue"],
        )
        for queue, seconds in intake.waiting_seconds().items():
            waiting.add_metric([_label(queue)], seconds)
        yield waiting
        foreigners = CounterMetricFamily(
            "taskfleet_foreign_records", "Records in Redis that are none of ours and were left out.", labels=["kind"]
        )
        skipped = getattr(worker.queue.broker, "skipped", None)
        for kind, count in (skipped.counts.copy() if skipped is not None else {}).items():
            foreigners.add_metric([kind], count)
        yield foreigners
        yield CounterMetricFamily(
            "taskfleet_lost_acks", "Outcomes that came after another worker had taken over.", value=worker.lost_acks
        )


def _label(text: str) -> str:
    return shown(text, foreign.NAME_LIMIT)


def exposition(worker: Worker) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    return generate_latest(registry)
