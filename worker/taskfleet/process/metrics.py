"""The Prometheus metrics of one worker, computed when they are scraped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from taskfleet import foreign
from taskfleet.process.families import Distribution, Family
from taskfleet.protocol import outcome
from taskfleet.protocol.partitions import Partition, queue_of
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
        return (family.metric() for family in self.families())

    def families(self) -> list[Family]:
        """The figures as plain data. Any thread may ask for them."""
        return [*self._tasks(), *self._worker(), *self._unreadable()]

    def _tasks(self) -> Iterable[Family]:
        ended = Family("taskfleet_tasks", "counter", "Ended tasks by outcome.", ("queue", "task", "outcome"))
        busy = Family("taskfleet_task_busy_seconds", "counter", "Seconds that tasks ran.", ("queue",))
        wait = Family(
            "taskfleet_task_wait_seconds",
            "histogram",
            "How long tasks had been ready when a run of theirs began.",
            ("queue", "task"),
        )
        run = Family(
            "taskfleet_task_run_seconds", "histogram", "How long runs took, whatever their outcome.", ("queue", "task")
        )
        for (queue, task), figures in self._tally.tasks.copy().items():
            labels = _label(queue), _label(task)
            for code, count in figures.counts.copy().items():
                ended.add((*labels, outcome.NAMES[code]), count)
            busy.add(labels[:1], figures.run_seconds)
            wait.add_distribution(labels, Distribution(figures.wait_buckets.copy(), figures.wait_seconds))
            latest = {at: (one.labels, one.value, one.at) for at, one in figures.exemplars.copy().items()}
            run.add_distribution(labels, Distribution(figures.run_buckets.copy(), figures.run_seconds, latest))
        for (partition, code), count in self._tally.unrun.copy().items():
            ended.add((self._queue(partition), "", outcome.NAMES[code]), count)
        taken_over = Family(
            "taskfleet_taken_over_tasks",
            "counter",
            "Tasks that this worker took over because the lease of another one had expired.",
            ("queue",),
        )
        for partition, count in self._tally.taken_over.copy().items():
            taken_over.add((self._queue(partition),), count)
        lost = "Outcomes of tasks that had been taken from the worker, or of which Redis knew nothing."
        return (
            ended,
            busy,
            wait,
            run,
            taken_over,
            _single("taskfleet_lost_acks", "counter", lost, self._tally.lost_acks),
        )

    def _worker(self) -> Iterable[Family]:
        running, ready = len(self._slots.running), float(self._health.ready)
        stopping = self._stopping
        return (
            _single("taskfleet_worker_processes", "gauge", "Worker processes whose figures these are.", 1),
            _single("taskfleet_worker_restarts", "counter", "Worker processes that were started again.", 0),
            _single("taskfleet_worker_slots", "gauge", "Tasks that can run at a time.", self._slots.total),
            _single("taskfleet_worker_running", "gauge", "Tasks that run now.", running),
            _single(
                "taskfleet_worker_leases", "gauge", "Leases held: running, prefetched, unrecorded.", len(self._held)
            ),
            _single("taskfleet_worker_ready", "gauge", "Worker processes that can take tasks.", ready),
            _single("taskfleet_stuck_slots", "gauge", "Slots of handlers that cannot be stopped.", len(stopping)),
            _single("taskfleet_stuck_handlers", "counter", "Handlers that ignored their cancellation.", stopping.total),
        )

    def _unreadable(self) -> Iterable[Family]:
        """Payloads and records that this worker cannot read."""
        unread = Family(
            "taskfleet_unreadable_payloads", "counter", "Payloads that were refused, by reason.", ("queue", "reason")
        )
        for (partition, reason), count in self._rejections.counts.copy().items():
            unread.add((self._queue(partition), reason), count)
        waiting = Family(
            "taskfleet_newer_version_wait_seconds",
            "largest",
            "Seconds that the oldest task which needs a newer worker has waited.",
            ("queue",),
        )
        for partition, seconds in self._rejections.waiting_seconds().items():
            waiting.add((self._queue(partition),), seconds)
        foreigners = Family(
            "taskfleet_foreign_records", "counter", "Skipped records that Taskfleet did not write.", ("kind",)
        )
        if self._skipped is not None:
            for kind, count in self._skipped.counts.copy().items():
                foreigners.add((kind,), count)
        return unread, waiting, foreigners

    def _queue(self, partition: Partition | str) -> str:
        return _label(self._tally.labels.queue(queue_of(Partition(partition))))


def _single(name: str, kind: str, meaning: str, value: float) -> Family:
    made = Family(name, kind, meaning)  # type: ignore[arg-type]
    made.add((), value)
    return made


def _label(text: str) -> str:
    return shown(text, foreign.NAME_LIMIT)
