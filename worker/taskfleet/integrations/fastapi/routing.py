"""`router()`: all routes for one queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.params import Depends as DependsMark

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.integrations.fastapi.task_router import TaskRouter, failures
from taskfleet.integrations.observing.judgement_reports import AlertsReport, SlaReport
from taskfleet.integrations.observing.machine_reports import MemoryReport, SystemReport, UptimeReport
from taskfleet.integrations.observing.observer import Observer
from taskfleet.integrations.observing.queue_reports import (
    AutoscalerReport,
    HealthReport,
    PerformanceReport,
    QueuesReport,
    StatusReport,
    WorkersReport,
)
from taskfleet.integrations.observing.reports import DiagnosticsReport, MetricsReport, RegistryReport
from taskfleet.integrations.observing.rules import Thresholds
from taskfleet.queue import TaskQueue
from taskfleet.tasks.class_task import Task
from taskfleet.tasks.function import TaskFunction


def router(
    queue: TaskQueue,
    prefix: str | None = None,
    *,
    tasks: Collection[TaskFunction[..., Any, Any] | type[Task] | str] | None = None,
    auth: Callable[..., Any] | None = None,
    dependencies: Sequence[DependsMark] = (),
    thresholds: Thresholds | Mapping[str, Any] = Thresholds(),  # noqa: B008 - it is frozen
    max_body_bytes: int | None = None,
    max_wait: float = 30.0,
    health_timeout: float = 2.0,
) -> APIRouter:
    """The routes of a queue, for `app.include_router`. With the application, the router closes the queue.

    Args:
        prefix: the path before all routes; by default `web.route_prefix` of the settings, which is `/tasks`.
        tasks: the tasks that can be enqueued, as functions, classes or names; by default all that the queue has, all
            class tasks, and those that are defined later.
        auth: a dependency of all routes; it raises `HTTPException` to refuse a request.
        dependencies: further dependencies of all routes, as FastAPI's own routers take them.
        thresholds: the limits of `/alerts` and the targets of `/sla`, as `Thresholds` or a dict of its names.
        max_body_bytes: the largest body of a request; by default `max_payload_bytes` of the queue.
        max_wait: the most seconds that `GET /status/{id}?wait=…` waits.
        health_timeout: seconds in which Redis must answer for `/health`.

    Errors: `ConfigurationError` names the option.
    """
    settings = queue.settings.web
    prefix = _prefix(settings.route_prefix if prefix is None else prefix)
    bound = queue.application.max_payload_bytes if max_body_bytes is None else max_body_bytes
    made = TaskRouter(
        queue,
        prefix=prefix,
        dependencies=[*([Depends(auth)] if auth is not None else []), *dependencies],
        only=None if tasks is None else frozenset(map(_name_of, checks.several("tasks", tasks, "tasks or names"))),
        max_body_bytes=checks.whole("max_body_bytes", bound, least=1),
        max_wait=checks.seconds("max_wait", max_wait),
    )
    observer = Observer(
        queue,
        Thresholds.of(thresholds),
        health_timeout=checks.seconds("health_timeout", health_timeout, positive=True),
    )
    if not settings.auto_configure_routes:
        return made
    if settings.enable_health_check:
        _add_health(made, observer)
    if settings.enable_metrics:
        _add_metrics(made, observer)
    made.add_task_routes()
    return made


def _prefix(prefix: object) -> str:
    if not isinstance(prefix, str) or (prefix and (prefix[0] != "/" or prefix[-1] == "/")):
        raise ConfigurationError(
            f"prefix={checks.shown(prefix)}: a prefix begins with '/' and does not end with it, such as '/tasks'"
        )
    return prefix


def _name_of(task: object) -> str:
    if isinstance(task, TaskFunction) or (isinstance(task, type) and issubclass(task, Task)):
        return task.name
    if isinstance(task, str):
        return task
    raise ConfigurationError(f"tasks: {checks.shown(task)} is no task; give task functions, Task classes or names")


def _add_health(made: APIRouter, observer: Observer) -> None:
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": HealthReport, "description": "Redis does not answer"}}

    @made.get("/health", response_model=HealthReport, responses=unhealthy, name="health")
    async def health(response: Response) -> HealthReport:
        """Whether this process can enqueue tasks: 200 when Redis answers in time, else 503."""
        report = await observer.health()
        if report.status != "healthy":
            response.status_code = 503
        return report

    @made.get("/status", response_model=StatusReport, responses=failures(503), name="status")
    async def status() -> StatusReport:
        """Health, workers and backlog at a glance."""
        return await observer.status()


def _add_metrics(made: TaskRouter, observer: Observer) -> None:
    async def metrics() -> MetricsReport:
        """All figures in one answer, from one look at Redis."""
        return await observer.metrics()

    async def system() -> SystemReport:
        """This process, its machine, and Redis."""
        return await observer.system()

    async def performance() -> PerformanceReport:
        """How fast the queues are, since the last looks of this process and since their first task."""
        return observer.performance_in(await observer.look())

    async def autoscaler() -> AutoscalerReport:
        """The autoscaler of this process, if it has one."""
        return observer.autoscaler()

    async def queues() -> QueuesReport:
        """The figures of all queues."""
        return observer.queues_in(await observer.look())

    async def workers() -> WorkersReport:
        """The live workers of all processes."""
        return observer.workers_in(await observer.look())

    async def memory() -> MemoryReport:
        """The memory of this process and of Redis."""
        return await observer.memory()

    async def registry() -> RegistryReport:
        """The tasks that this program defines, each with the JSON schema of its arguments."""
        return made.registry()

    async def alerts() -> AlertsReport:
        """What is wrong now, by rules whose thresholds are options of the router."""
        return await observer.alerts()

    async def sla() -> SlaReport:
        """Whether each queue meets its objectives, which are options of the router."""
        return await observer.sla()

    async def diagnostics() -> DiagnosticsReport:
        """What one needs to know to find out why something does not work."""
        return await observer.diagnostics()

    async def uptime() -> UptimeReport:
        """Since when this process, Redis and the workers run."""
        return await observer.uptime()

    for path, endpoint, report in (
        ("/metrics", metrics, MetricsReport),
        ("/metrics/system", system, SystemReport),
        ("/metrics/performance", performance, PerformanceReport),
        ("/metrics/autoscaler", autoscaler, AutoscalerReport),
        ("/metrics/queues", queues, QueuesReport),
        ("/metrics/workers", workers, WorkersReport),
        ("/metrics/memory", memory, MemoryReport),
        ("/registry", registry, RegistryReport),
        ("/alerts", alerts, AlertsReport),
        ("/sla", sla, SlaReport),
        ("/diagnostics", diagnostics, DiagnosticsReport),
        ("/uptime", uptime, UptimeReport),
    ):
        made.add_api_route(
            path, endpoint, methods=["GET"], response_model=report, responses=failures(503), name=endpoint.__name__
        )
