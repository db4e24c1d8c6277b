"""The figures and the health of all worker processes of one supervisor, which shows them on one port.

Counters and histograms are added up, also those of processes that have ended: what a process has counted stays when
another takes its place, so that no counter goes back. Gauges are those of the processes that run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from taskfleet.process.families import Family, added, lasting
from taskfleet.process.figures_pipe import FiguresReader, FiguresReport
from taskfleet.runtime.state.tally import Labels

_SILENT_SECONDS = 30.0
_STALLED_SECONDS = 30.0


class MergedFigures(Collector):
    """Serves as the collector and as the health of a probe server.

    The supervisor's loop calls `adopt`, `retire` and `beat`; threads of the server read.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._readers: dict[int, FiguresReader] = {}
        self._ended: list[Family] = []  # counters of processes that have ended
        self._restarts = 0
        self._labels = Labels()
        self._beat = time.monotonic()
        self.draining = False

    def adopt(self, number: int) -> FiguresReader:
        """The reader for process `number`, which is about to be started."""
        reader = FiguresReader()
        with self._lock:
            self._readers[number] = reader
        return reader

    def retire(self, number: int, *, replaced: bool) -> None:
        """Process `number` has ended; its counters stay. `replaced` when another will take its place."""
        reader = self._readers.get(number)
        if reader is None:
            return
        reader.finish()
        with self._lock:  # in one step, so that no scrape sees the process twice, or not at all
            del self._readers[number]
            self._restarts += replaced
            if (report := reader.report()) is not None:
                self._ended = added([self._ended, lasting(self._bounded(report))])

    def beat(self) -> None:
        """The supervisor's loop gets on."""
        self._beat = time.monotonic()

    # As a collector.

    def collect(self) -> Iterator[Metric]:
        return (family.metric() for family in self.families())

    def families(self) -> list[Family]:
        with self._lock:
            running = [self._bounded(report) for _, report in self._reports() if report is not None]
            again = Family("taskfleet_worker_restarts", "counter", "Worker processes that were started again.")
            again.add((), self._restarts)
            return added([[again], self._ended, *running])

    def _reports(self) -> list[tuple[int, FiguresReport | None]]:
        return [(number, reader.report()) for number, reader in sorted(self._readers.items())]

    def _bounded(self, report: FiguresReport) -> list[Family]:
        """The families of a process: together, the processes have no more labels than one of them may have."""
        return [self._relabelled(family) for family in report.families]

    def _relabelled(self, family: Family) -> Family:
        if "queue" not in family.labels:
            return family
        made = Family(family.name, family.kind, family.meaning, family.labels)
        has_task = "task" in family.labels  # behind the queue
        for labels, value in family.values.items():
            made.add(self._admitted(labels, has_task), value)
        for labels, distribution in family.distributions.items():
            made.add_distribution(self._admitted(labels, has_task), distribution)
        return made

    def _admitted(self, labels: tuple[str, ...], has_task: bool) -> tuple[str, ...]:
        queue, *others = labels
        if has_task and others[0]:
            return (*self._labels.pair(queue, others[0]), *others[1:])
        return (self._labels.queue(queue), *others)

    # As the health of all.

    @property
    def alive(self) -> bool:
        return not self.why_not_alive()

    def why_not_alive(self) -> str:
        """A process that has ended is started again, and is no reason; one that hangs is."""
        if time.monotonic() - self._beat > _STALLED_SECONDS:
            return "the supervisor stands still"
        with self._lock:
            for number, report in self._reports():
                silent = self._readers[number].silent_seconds
                if report is not None and report.not_alive:
                    return f"process {number}: {report.not_alive}"
                if report is not None and silent > _SILENT_SECONDS:
                    return f"process {number} has told nothing for {silent:.0f} s"
        return ""

    @property
    def ready(self) -> bool:
        return not self.why_not_ready()

    def why_not_ready(self) -> str:
        """All processes can take tasks."""
        if self.draining:
            return "draining"
        with self._lock:
            reports = self._reports()
        for number, report in reports:
            if report is None:
                return f"process {number} starts"
            if report.not_ready:
                return f"process {number}: {report.not_ready}"
        missing = self._processes - len(reports)
        return f"{missing} of {self._processes} processes do not run" if missing > 0 else ""
