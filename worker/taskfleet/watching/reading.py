"""Reads a fleet again and again, with a bounded number of short calls, none of which writes.

A reading asks for the figures of at most `_MOST_PARTITIONS` partitions: of those on the screen, and of the others in
turn. Workers are read less often when there are many. No call's cost grows with the number of tasks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.watching.failures import Failures
from taskfleet.watching.rates import Rates
from taskfleet.watching.runs import Runs
from taskfleet.watching.snapshot import QueueLine, Snapshot, WorkerLine
from taskfleet.watching.watched import WatchedFleet

if TYPE_CHECKING:
    from taskfleet.protocol.worker_info import WorkerInfo

_MOST_PARTITIONS = 256  # whose figures one reading asks for
_WORKERS_PER_SECOND = 100
_CLAIMING = ("starting", "running")


class FleetReading:
    """Everything that was read so far."""

    def __init__(self, queue: WatchedFleet) -> None:
        self._queue = queue
        self._rows: dict[str, QueueLine] = {}
        self._rates: dict[str, Rates] = {}
        self._read_at: dict[str, float] = {}
        self._partitions: dict[str, list[Partition]] = {}
        self._workers: list[WorkerInfo] = []
        self._workers_at = -math.inf
        self._runs = Runs(queue)
        self._failures = Failures(queue)

    async def snapshot(self, first: Sequence[str] = (), *, whole: bool = False) -> Snapshot:
        """Read, those queues `first`, and with `whole` every queue. Errors: `BrokerConnectionError`."""
        broker = self._queue.broker
        await self._list()
        wanted = list(self._partitions) if whole else self._chosen(first)
        figures = await broker.figures(dict.fromkeys(wanted, (0, 0)), workers=False)
        now = time.monotonic()
        if now - self._workers_at >= len(self._workers) / _WORKERS_PER_SECOND:
            self._workers = await broker.workers()
            self._workers_at = time.monotonic()
            await self._runs.read(self._workers)
        takers = _takers(self._workers)
        for name in wanted:
            self._read_at[name] = now
            self._rows[name] = row = QueueLine(
                name,
                figures.stats.get(name),
                self._queue.application.known_options_of(name),
                takers.get(name, 0),
                problem=str(figures.failures[name]) if name in figures.failures else "",
            )
            if row.stats is not None:
                self._rates.setdefault(name, Rates()).add(
                    now, (row.stats.enqueued_total, row.stats.finished_total, row.stats.failed_total)
                )
        queues = [self._with_rates(name, takers.get(name, 0)) for name in self._partitions]
        await self._runs.find(self._partitions_with_runs(queues))
        failures = await self._failures.read(queues, self._partitions)
        age = time.monotonic() - self._workers_at
        return Snapshot(
            datetime.now(UTC),
            queues,
            [WorkerLine(info, info.heartbeat_age_seconds + age) for info in self._workers],
            self._runs.rows(age),
            failures,
            unread=sum(1 for row in queues if row.stats is None and not row.problem),
        )

    async def _list(self) -> None:
        found: dict[str, list[Partition]] = {}
        for options in self._queue.application.queue_options:
            found[options.name] = []
        for partition in await self._queue.broker.partitions():
            found.setdefault(queue_of(partition), []).append(partition)
        self._partitions = {name: found[name] or [Partition(name)] for name in sorted(found)}
        for known in (self._rows, self._rates, self._read_at):
            for name in known.keys() - found.keys():
                del known[name]

    def _chosen(self, first: Sequence[str]) -> list[str]:
        """Queues to read: half of the calls for `first`, the others for those that were read longest ago."""
        room = _MOST_PARTITIONS
        chosen: dict[str, None] = {}
        for name in filter(self._partitions.__contains__, first):
            if room - len(self._partitions[name]) < _MOST_PARTITIONS // 2:
                break
            room -= len(self._partitions[name])
            chosen[name] = None
        for name in sorted(self._partitions, key=lambda each: self._read_at.get(each, -math.inf)):
            if name in chosen:
                continue
            room -= len(self._partitions[name])
            if room < 0 and chosen:
                break
            chosen[name] = None
        return list(chosen)

    def _with_rates(self, name: str, takers: int) -> QueueLine:
        row = self._rows.get(name)
        if row is None:
            return QueueLine(name, None, self._queue.application.known_options_of(name), takers)
        rates = self._rates[name].per_second() if name in self._rates else None
        came, ended, failed = rates if rates is not None else (None, None, None)
        return replace(
            row,
            takers=takers,
            enqueued_per_second=came,
            finished_per_second=ended,
            failed_per_second=failed,
            partitions=len(self._partitions[name]),
        )

    def _partitions_with_runs(self, queues: Iterable[QueueLine]) -> list[Partition]:
        return [
            partition
            for row in queues
            if row.stats is not None and row.stats.in_flight
            for partition in self._partitions[row.name]
        ]


def _takers(workers: Iterable[WorkerInfo]) -> dict[str, int]:
    """The number of workers that claim tasks of each queue."""
    found: dict[str, int] = {}
    for worker in workers:
        if worker.state in _CLAIMING:
            for name in worker.queues:
                found[name] = found.get(name, 0) + 1
    return found
