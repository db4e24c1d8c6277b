"""`TaskQueueBuilder`, which puts together an all-in-one process and checks it as a whole before any part runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pydantic

from taskfleet import checks, config, showing
from taskfleet.embedded import autodiscover
from taskfleet.embedded.embedded_queue import EmbeddedQueue
from taskfleet.errors import ConfigurationError
from taskfleet.process import requests
from taskfleet.settings import AutoscalerSettings, Settings, WorkerSettings
from taskfleet.tasks.namespace import Registry
from taskfleet.validation_errors import first_problem

logger = showing.logger("taskfleet.process")


class TaskQueueBuilder:
    """Choose the parts that one process runs, then `build()` it.

    Args:
        url: the URL of Redis; by default that of the configuration.
        path: a configuration file; by default `task-queue.toml` or `task-queue.yaml` of the current folder, if any.
        options: options of the `TaskQueue`: `queues`, `result_ttl`, …

    The builder's choices override the environment and the file, which set everything else.
    """

    def __init__(self, url: str | None = None, *, path: str | Path | None = None, **options: Any) -> None:
        self._url = url
        self._path = path
        self._options = options
        self._workers: int | None = None
        self._modules: list[str] = []
        self._scheduler = False
        self._autoscaler: dict[str, Any] | None = None

    def initial_workers(self, count: int) -> Self:
        """The number of workers at the start, with `workers.max_concurrent_tasks` slots each."""
        self._workers = count
        return self

    def auto_register_tasks(self, *modules: str) -> Self:
        """Import these modules, and for a package all of its modules, and run the tasks that they define."""
        self._modules += [checks.text("auto_register_tasks: a module", module) for module in modules]
        return self

    def with_scheduler(self) -> Self:
        """Run a scheduler in this process, unless `scheduler.enabled` is off in the configuration."""
        self._scheduler = True
        return self

    def with_autoscaler(
        self,
        *,
        min_workers: int | None = None,
        max_workers: int | None = None,
        scale_up_threshold: float | None = None,
        scale_down_threshold: float | None = None,
        scale_up_count: int | None = None,
        scale_down_count: int | None = None,
    ) -> Self:
        """Let the number of workers follow the ready tasks per worker; the configuration sets all omitted values."""
        given = {
            "min_workers": min_workers,
            "max_workers": max_workers,
            "scale_up_threshold": scale_up_threshold,
            "scale_down_threshold": scale_down_threshold,
            "scale_up_count": scale_up_count,
            "scale_down_count": scale_down_count,
        }
        self._autoscaler = {name: value for name, value in given.items() if value is not None}
        return self

    def build(self) -> EmbeddedQueue:
        """The process, not yet started.

        Errors: one `ConfigurationError` with all problems; each part of it names the option.
        """
        problems: list[str] = []
        try:
            settings = config.load(self._path)
        except ConfigurationError as error:
            problems.append(str(error))
            settings = Settings()
        settings = self._settle(settings, problems)
        registry = self._register(settings, problems)
        app: EmbeddedQueue | None = None
        try:
            app = EmbeddedQueue(
                url=self._url,
                settings=settings,
                scheduler=self._scheduler and settings.scheduler.enabled,
                autoscaler=self._autoscaler is not None,
                **self._options,
            )
        except (ConfigurationError, TypeError) as error:
            problems.append(str(error))
        else:
            for definition in registry:
                app.registry.add(definition)
        if app is None or problems:
            count = f"{len(problems)} problems: " if len(problems) > 1 else ""
            raise ConfigurationError(f"TaskQueueBuilder: {count}{'; '.join(problems)}") from None
        return app

    def _settle(self, settings: Settings, problems: list[str]) -> Settings:
        """The settings, overridden by the builder's choices."""
        autoscaler = settings.autoscaler
        if self._autoscaler is not None:
            try:
                autoscaler = AutoscalerSettings.model_validate(autoscaler.model_dump() | self._autoscaler, strict=True)
            except pydantic.ValidationError as error:
                problems.append(f"with_autoscaler: {first_problem(error).removeprefix('Value error, ')}")
        workers = settings.workers
        if self._workers is not None:
            try:
                workers = WorkerSettings.model_validate(
                    workers.model_dump() | {"initial_count": self._workers}, strict=True
                )
            except pydantic.ValidationError as error:
                problem = first_problem(error).removeprefix("initial_count: ")
                problems.append(f"initial_workers({self._workers!r}): {problem}")
        if self._autoscaler is not None:
            least, most = autoscaler.min_workers, autoscaler.max_workers
            if not least <= workers.initial_count <= most:
                if self._workers is not None:
                    problems.append(
                        f"initial_workers({self._workers!r}): with_autoscaler has "
                        f"min_workers={least} and max_workers={most}; start within them"
                    )
                workers = workers.model_copy(update={"initial_count": min(max(workers.initial_count, least), most)})
        return settings.model_copy(update={"autoscaler": autoscaler, "workers": workers})

    def _register(self, settings: Settings, problems: list[str]) -> Registry:
        registry = Registry()
        if not settings.auto_register.enabled:
            if self._modules:
                logger.info("auto_register.enabled is off: nothing is imported")
            return registry
        for name in self._modules:
            found = 0
            try:
                with requests.ending_the_first_process():
                    modules = autodiscover.import_all(name)
                for module in modules:
                    for definition in autodiscover.definitions_of(module):
                        registry.add(definition)
                        found += 1
                    found += sum(1 for _ in autodiscover.class_tasks_of(module))
            except ConfigurationError as error:
                problems.append(f"auto_register_tasks({name!r}): {error}")
            else:
                if not found:
                    problems.append(f"auto_register_tasks({name!r}): no task is defined there")
        return registry
