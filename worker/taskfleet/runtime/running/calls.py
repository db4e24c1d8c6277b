"""Calls of task functions: with their dependencies, inside the middleware, and in their executor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from taskfleet.application import Application
from taskfleet.runtime.executors import returned
from taskfleet.runtime.executors.process_answers import Returned
from taskfleet.runtime.executors.returned import PLAIN_TYPES
from taskfleet.runtime.executors.threads import Threads
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.running import injection
from taskfleet.runtime.state.batch_job import BatchJob
from taskfleet.runtime.state.job import Job
from taskfleet.tasks.definition import Definition

if TYPE_CHECKING:
    from taskfleet.runtime.executors.process_executor import Processes
    from taskfleet.tasks.batch import BatchItem


class Calls:
    """Runs functions on the loop, in threads or in processes."""

    def __init__(
        self,
        application: Application,
        outcomes: Outcomes,
        scope: injection.WorkerScope,
        threads: Threads,
        processes: Callable[[], Processes],
    ) -> None:
        self._hooks = application.middleware
        self._overrides = application.overrides
        self._outcomes = outcomes
        self._scope = scope
        self._threads = threads
        self._processes = processes

    async def through_hooks(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run the function of a task that has dependencies or middleware around it."""
        definition = job.definition
        args, kwargs = definition.signature.arranged(args, kwargs)
        answers: list[Returned] = []

        def call() -> Coroutine[Any, Any, Any]:
            if definition.options.executor == "process":
                return self._in_process_for_hooks(job, answers)
            return self._with_dependencies(definition, args, kwargs, job.context)

        if not self._hooks.execute:
            return await call()
        value = await self._hooks.around_execute(job.context(), call)()
        # A value that middleware has not replaced was packed in its process, and must not be validated again.
        return answers[-1] if answers and value is answers[-1].seen else value

    async def batch(self, batch: BatchJob, items: list[BatchItem[Any]]) -> Any:
        """Run a batch function inside its hooks, with its dependencies."""

        def call() -> Coroutine[Any, Any, Any]:
            return self._with_dependencies(batch.definition, [items], {}, None)

        if not self._hooks.execute_batch:
            return await call()
        return await self._hooks.around_batch([item.context for item in items], call)()

    async def in_thread(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a plain function in a thread."""
        value = await self._threads.call(function, args, kwargs)
        if value is not None and type(value) not in PLAIN_TYPES and returned.is_awaitable(value):
            return await value  # a plain function that returned a coroutine
        return value

    async def in_process(self, job: Job) -> Returned:
        """Run the function of a task in a process."""
        return await self._processes().call(job, keep=self._outcomes.keeps_result(job))

    async def _in_process_for_hooks(self, job: Job, answers: list[Returned]) -> Any:
        """The value itself, for middleware."""
        answers.append(await self._processes().call(job, keep=True))
        return answers[-1].value(job.definition.signature.result)

    async def _with_dependencies(
        self,
        definition: Definition,
        args: list[Any],
        kwargs: dict[str, Any],
        make_context: injection.MakeContext | None,
    ) -> Any:
        function = definition.function
        in_thread = definition.options.executor != "async"
        if definition.plan is None:
            return await (self.in_thread(function, args, kwargs) if in_thread else function(*args, **kwargs))
        plan = self._overrides.plan_of(definition.plan)

        async def call(values: injection.Values) -> Any:
            if not in_thread:
                return await function(*args, **kwargs, **injection.injected(plan, values))
            given = [plan, values, make_context, function, args, kwargs]
            return await self._threads.call(injection.call_in_thread, given, {})

        return await injection.call_with(plan, self._scope, make_context, call)
