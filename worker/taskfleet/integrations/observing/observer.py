"""Looks at a `TaskQueue`, its Redis and this process, and makes the reports of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic_core import to_jsonable_python

from taskfleet.embedded.embedded_queue import EmbeddedQueue
from taskfleet.errors import TaskQueueError
from taskfleet.integrations.observing import process_facts, rules, server_facts
from taskfleet.integrations.observing.judgement_reports import AlertsReport, SlaReport
from taskfleet.integrations.observing.machine_reports import MemoryReport, SystemReport, UptimeReport
from taskfleet.integrations.observing.queue_reports import (
    AutoscalerReport,
    BacklogReport,
    FleetCountReport,
    HealthReport,
    PerformanceOfQueueReport,
    PerformanceReport,
    QueueReport,
    QueuesReport,
    ReachabilityReport,
    StatusReport,
    WorkerReport,
    WorkersReport,
)
from taskfleet.integrations.observing.recent import GrowthOfQueue, RecentLooks, Window
from taskfleet.integrations.observing.reports import DiagnosticsReport, MetricsReport
from taskfleet.integrations.observing.rules import JudgedFigures, Thresholds
from taskfleet.integrations.observing.server_facts import ServerFacts
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.version import __version__

if TYPE_CHECKING:
    from taskfleet.embedded.autoscaling import Autoscaler

_LEAVING = ("draining", "cordoned", "drained")


@dataclass(frozen=True, slots=True)
class QueueLook:
    """One look at the queues and workers."""

    at: datetime
    stats: Mapping[str, QueueStats]
    unreadable: Mapping[str, str]
    workers: Sequence[WorkerInfo]
    skipped: int
    known: frozenset[str]  # the queues that Redis lists
    window: Window | None


class Observer:
    """Makes the reports of one `TaskQueue`. Errors: `BrokerConnectionError`, where a report needs Redis."""

    def __init__(self, queue: TaskQueue, thresholds: Thresholds, *, health_timeout: float) -> None:
        self._queue = queue
        self._thresholds = thresholds
        self._health_timeout = health_timeout
        self._recent = RecentLooks()
        self._made = time.monotonic()

    async def look(self) -> QueueLook:
        """The figures of all queues and workers, in one reading."""
        broker = self._queue.broker
        known = frozenset(await broker.queues())
        names = known | self._named()
        figures = await broker.figures(dict.fromkeys(sorted(names), (0, 0)))
        return QueueLook(
            at=_now(),
            stats=dict(sorted(figures.stats.items())),
            unreadable={name: str(error) for name, error in sorted(figures.failures.items())},
            workers=sorted(figures.workers, key=lambda worker: worker.worker_id),
            skipped=figures.skipped,
            known=known,
            window=self._recent.window_until(figures.stats),
        )

    def _named(self) -> frozenset[str]:
        """The queues that this program names, in its options or as the queue of a task."""
        application = self._queue.application
        return frozenset(
            [each.name for each in application.queue_options]
            + [definition.options.queue for definition in application.registry]
        )

    # Reports.

    async def health(self) -> HealthReport:
        """Whether Redis answers in time."""
        began = time.perf_counter()
        error: str | None = None
        try:
            async with asyncio.timeout(self._health_timeout):
                await self._queue.health_check()
        except TimeoutError:
            where = server_facts.address_of(self._queue.broker)
            error = f"Redis at {where} has not answered in {self._health_timeout:g} s"
        except TaskQueueError as problem:
            error = str(problem)
        latency = round((time.perf_counter() - began) * 1000, 3)
        reachability = ReachabilityReport(
            reachable=error is None, latency_ms=None if error is not None else latency, error=error
        )
        return HealthReport(status="unhealthy" if error is not None else "healthy", redis=reachability, at=_now())

    async def status(self) -> StatusReport:
        health = await self.health()
        look = await self.look()
        stats = look.stats.values()
        backlog = BacklogReport(
            queues=len(look.stats) + len(look.unreadable),
            ready=sum(each.ready for each in stats),
            in_flight=sum(each.in_flight for each in stats),
            delayed=sum(each.delayed for each in stats),
            blocked=sum(each.blocked for each in stats),
            dead=sum(each.dead for each in stats),
            paused=[name for name, each in look.stats.items() if each.paused],
        )
        return StatusReport(health=health, workers=self._fleet(look), backlog=backlog, version=__version__, at=look.at)

    async def metrics(self) -> MetricsReport:
        look, servers = await self.look(), await self._servers()
        return MetricsReport(
            queues=self.queues_in(look),
            workers=self.workers_in(look),
            performance=self.performance_in(look),
            autoscaler=self.autoscaler(),
            system=self.system_with(servers),
            memory=self.memory_with(servers),
        )

    def queues_in(self, look: QueueLook) -> QueuesReport:
        return QueuesReport(queues=self._queue_reports(look), unreadable=dict(look.unreadable), at=look.at)

    def workers_in(self, look: QueueLook) -> WorkersReport:
        return WorkersReport(workers=_worker_reports(look), total=self._fleet(look), at=look.at)

    def performance_in(self, look: QueueLook) -> PerformanceReport:
        window = look.window
        return PerformanceReport(
            window_seconds=window.seconds if window is not None else None,
            queues=[_performance(name, stats, window) for name, stats in look.stats.items()],
            at=look.at,
        )

    def autoscaler(self) -> AutoscalerReport:
        """The autoscaler of this process, if it has one."""
        queue = self._queue
        found: Autoscaler | None = queue.autoscaler if isinstance(queue, EmbeddedQueue) else None
        limits = queue.settings.autoscaler if found is not None else None
        last = found.last_change if found is not None else None
        return AutoscalerReport(
            running=found is not None,
            workers=queue.worker_count,
            min_workers=limits.min_workers if limits else None,
            max_workers=limits.max_workers if limits else None,
            scale_up_threshold=limits.scale_up_threshold if limits else None,
            scale_down_threshold=limits.scale_down_threshold if limits else None,
            last_change=last.change if last is not None else None,
            last_reason=last.reason if last is not None else None,
            at=_now(),
        )

    async def system(self) -> SystemReport:
        return self.system_with(await self._servers())

    def system_with(self, servers: ServerFacts) -> SystemReport:
        return SystemReport(
            process=process_facts.report(),
            cpu_count=os.cpu_count(),
            load_1m=process_facts.load_1m(),
            redis=servers.servers,
            redis_unknown=servers.unknown,
            at=_now(),
        )

    async def memory(self) -> MemoryReport:
        return self.memory_with(await self._servers())

    def memory_with(self, servers: ServerFacts) -> MemoryReport:
        return MemoryReport(
            process_bytes=process_facts.memory_bytes(),
            process_peak_bytes=process_facts.peak_memory_bytes(),
            redis=servers.servers,
            redis_unknown=servers.unknown,
            at=_now(),
        )

    async def alerts(self) -> AlertsReport:
        """What is wrong now. Redis that does not answer is one alert, and all other rules are unknown."""
        health = await self.health()
        if (error := health.redis.error) is None:
            try:
                return self._alerts_in(await self.look(), await self._servers())
            except TaskQueueError as problem:
                error = str(problem)
        found, unknown = rules.of_unreachable(error)
        return AlertsReport(alerts=found, unknown=unknown, window_seconds=None, at=_now())

    def _alerts_in(self, look: QueueLook, servers: ServerFacts) -> AlertsReport:
        figures = self._judged(look, servers)
        return AlertsReport(
            alerts=rules.alerts(figures, self._thresholds),
            unknown=rules.unknown(figures),
            window_seconds=look.window.seconds if look.window is not None else None,
            at=look.at,
        )

    async def sla(self) -> SlaReport:
        """Whether the objectives are met."""
        look = await self.look()
        found = rules.objectives(self._judged(look, ServerFacts([])), self._thresholds)
        window = look.window.seconds if look.window is not None else None
        return SlaReport(met=rules.all_met(found), objectives=found, window_seconds=window, at=look.at)

    async def diagnostics(self) -> DiagnosticsReport:
        look, servers = await self.look(), await self._servers()
        broker, application = self._queue.broker, self._queue.application
        options = [to_jsonable_python(dataclasses.asdict(each)) for each in application.queue_options]
        versions = Counter(worker.version for worker in look.workers if worker.version != __version__)
        return DiagnosticsReport(
            process=process_facts.report(),
            redis_address=server_facts.address_of(broker),
            key_prefix=broker.prefix if isinstance(broker, RedisBroker) else None,
            servers=servers.servers,
            redis_unknown=servers.unknown,
            clock_ahead_seconds=servers.clock_ahead_seconds,
            queue_options=sorted(options, key=lambda each: each["name"]),
            tasks=len(application.registry) + len(CLASS_TASKS),
            unreadable=dict(look.unreadable),
            skipped_records=look.skipped,
            undeclared_queues=sorted(look.known - self._named()),
            other_versions={version or "unknown": count for version, count in sorted(versions.items())},
            alerts=self._alerts_in(look, servers),
        )

    async def uptime(self) -> UptimeReport:
        process, servers = process_facts.report(), await self._servers()
        workers = [each.started_ms for each in await self._queue.workers() if each.started_ms]
        uptimes = [each.uptime_seconds for each in servers.servers or () if each.uptime_seconds is not None]
        return UptimeReport(
            started_at=process.started_at,
            uptime_seconds=process.uptime_seconds,
            router_seconds=time.monotonic() - self._made,
            redis_uptime_seconds=uptimes if servers.servers is not None else None,
            oldest_worker_started_at=_moment(min(workers, default=0)),
            at=_now(),
        )

    # Parts of them.

    async def _servers(self) -> ServerFacts:
        return await server_facts.read(self._queue.broker)

    def _judged(self, look: QueueLook, servers: ServerFacts) -> JudgedFigures:
        return JudgedFigures(
            queues=self._queue_reports(look),
            unreadable=look.unreadable,
            workers=_worker_reports(look),
            servers=servers.servers,
            servers_unknown=servers.unknown,
            window=look.window,
        )

    def _fleet(self, look: QueueLook) -> FleetCountReport:
        workers = look.workers
        return FleetCountReport(
            live=len(workers),
            draining=sum(each.state in _LEAVING for each in workers),
            slots=sum(each.slots for each in workers),
            busy=sum(each.busy for each in workers),
            stuck=sum(each.stuck for each in workers),
            here=self._queue.worker_count,
        )

    def _queue_reports(self, look: QueueLook) -> list[QueueReport]:
        limits = {each.name: each.max_length or None for each in self._queue.application.queue_options}
        # A worker that is leaving claims nothing more.
        takers = Counter(name for worker in look.workers if worker.state not in _LEAVING for name in worker.queues)
        return [
            QueueReport(
                name=name,
                paused=stats.paused,
                ready=stats.ready,
                in_flight=stats.in_flight,
                delayed=stats.delayed,
                due=stats.due,
                parked=stats.parked,
                blocked=stats.blocked,
                dead=stats.dead,
                oldest_age_seconds=_oldest(stats),
                enqueued_total=stats.enqueued_total,
                finished_total=stats.finished_total,
                failed_total=stats.failed_total,
                attempts_total=stats.attempts_total,
                busy_seconds_total=stats.busy_ms_total / 1000,
                max_length=limits.get(name),
                workers=takers[name],
            )
            for name, stats in look.stats.items()
        ]


def _worker_reports(look: QueueLook) -> list[WorkerReport]:
    return [
        WorkerReport(
            worker_id=each.worker_id,
            name=each.name,
            pid=each.pid or None,
            state=each.state,
            queues=list(each.queues),
            slots=each.slots,
            busy=each.busy,
            stuck=each.stuck,
            heartbeat_age_seconds=each.heartbeat_age_seconds,
            idle_seconds=each.idle_seconds or None,
            oldest_run_seconds=each.oldest_run_seconds or None,
            started_at=_moment(each.started_ms),
            version=each.version or None,
        )
        for each in look.workers
    ]


def _performance(name: str, stats: QueueStats, window: Window | None) -> PerformanceOfQueueReport:
    growth = window.queues.get(name) if window is not None else None

    def rate(count: int | None) -> float | None:
        return count / window.seconds if window is not None and count is not None else None

    def mean(busy_ms: int, runs: int) -> float | None:
        return busy_ms / 1000 / runs if runs > 0 else None

    return PerformanceOfQueueReport(
        name=name,
        enqueued_per_second=rate(growth.enqueued if growth else None),
        finished_per_second=rate(growth.finished if growth else None),
        failed_per_second=rate(growth.failed if growth else None),
        mean_run_seconds=mean(growth.busy_ms, growth.attempts) if growth else None,
        success_ratio=_ratio_of(growth),
        lifetime_mean_run_seconds=mean(stats.busy_ms_total, stats.attempts_total),
        lifetime_success_ratio=rules.success_ratio(stats.finished_total, stats.failed_total),
        oldest_age_seconds=_oldest(stats),
    )


def _ratio_of(growth: GrowthOfQueue | None) -> float | None:
    return rules.success_ratio(growth.finished, growth.failed) if growth is not None else None


def _oldest(stats: QueueStats) -> float | None:
    return stats.oldest_age_seconds if stats.ready else None


def _moment(milliseconds: int) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _now() -> datetime:
    return datetime.now(UTC)
