"""The decorators of a queue, which make functions its tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.tasks.definition import define
from taskfleet.tasks.function import Sender, TaskFunction
from taskfleet.tasks.namespace import CLASS_TASKS, Registry
from taskfleet.tasks.options import BatchOptions, BatchTaskOptions, FunctionTaskOptions, TaskOptions
from taskfleet.tasks.provider_overrides import ProviderOverrides
from taskfleet.tasks.signature import hints_of

if TYPE_CHECKING:
    from taskfleet.tasks.batch import BatchFunction, BatchTask, ItemClassDecorator

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B")
V = TypeVar("V")


class Defining:
    """The part of a `TaskQueue` that tasks are defined on."""

    def __init__(self, registry: Registry, overrides: ProviderOverrides, sender: Sender) -> None:
        self.registry = registry
        self.overrides = overrides
        self._sender = sender

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TaskFunction[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...

    @overload
    def task(self, /, **options: Unpack[FunctionTaskOptions]) -> _TaskDecorator: ...

    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a function a task: `@queue.task` or `@queue.task(queue=…, max_retries=…, timeout=…, …)`.

        Durations in seconds or timedeltas. A plain function runs in a thread pool. `unique_key`, `limit_key` and
        `fair_key` are a text, or a function of the call's arguments that gives one. Errors: `ConfigurationError` names
        the option, its value and the expected form.
        """
        if function is not None:
            if not callable(function):
                raise ConfigurationError(
                    f"@queue.task({checks.shown(function)}): options are named, such as @queue.task(queue='default')"
                )
            return self._define(function, None, TaskOptions())
        name = _name_in(options)
        task_options = TaskOptions.of(options)
        return lambda function: self._define(function, name, task_options)

    def _define(self, function: Callable[..., Any], name: str | None, options: TaskOptions) -> Any:
        definition = define(name or _name_of(function), function, options)
        self.registry.add(definition)
        return TaskFunction(self._sender, definition, function)

    @overload
    def batch_task(
        self,
        /,
        *,
        item_class: Callable[P, V],
        size: int = 100,
        window_ms: float | timedelta = 50.0,
        **options: Unpack[BatchTaskOptions],
    ) -> ItemClassDecorator[P, V]: ...

    @overload
    def batch_task(
        self,
        /,
        *,
        item: Callable[P, R],
        size: int = 100,
        window_ms: float | timedelta = 50.0,
        **options: Unpack[BatchTaskOptions],
    ) -> Callable[[Callable[..., B]], BatchTask[P, R, B]]: ...

    @overload
    def batch_task(
        self,
        /,
        *,
        item: None = None,
        size: int = 100,
        window_ms: float | timedelta = 50.0,
        **options: Unpack[BatchTaskOptions],
    ) -> Callable[[Callable[..., B]], BatchTask[..., Any, B]]: ...

    def batch_task(
        self,
        /,
        *,
        item: Callable[..., Any] | None = None,
        item_class: Any = None,
        size: int = 100,
        window_ms: float | timedelta = 50.0,
        **options: Any,
    ) -> Any:
        """Make a function of `list[BatchItem]` a task that handles many calls in one run.

        A run starts with `size` items, or with the items that arrived within `window_ms` milliseconds after the first.
        It takes one slot and returns one outcome for each item, in order. An exception instance fails its item alone,
        which is retried by the task's options. A raised exception fails all items in the same way.

        Args:
            item: a function whose parameters and return annotation are those of one item; it is never called. Without
                it, `enqueue` takes every type that messagepack has.
            item_class: in place of `item` a class, such as a dataclass or a model: `enqueue` takes what the class
                takes, and the function gets `list[BatchItem[Row]]`, each with a `Row` as its `value`.
            timeout: seconds for the run as a whole; an item may shorten it with `.options(timeout=…)`.
        """
        from taskfleet.tasks.batch import BatchTask, define_batch  # only here: most applications have no batch task

        name = _name_in(options)
        task_options = TaskOptions.of(options)

        def decorate(function: BatchFunction) -> Any:
            task_name = name or _name_of(function)
            batch = BatchOptions.of(task_name, size, window_ms)
            definition = define_batch(task_name, function, task_options, batch, item, item_class)
            self.registry.add(definition)
            return BatchTask(self._sender, definition, function)

        return decorate

    def override(
        self, provider: Callable[..., Any], replacement: Callable[..., Any]
    ) -> contextlib.AbstractContextManager[None]:
        """Inside the `with` block, tasks that depend on `provider` get the value of `replacement`.

        It applies to the workers of this process, to tasks that start inside the block, and to dependencies of
        dependencies. Errors: `ConfigurationError` when a task would lack a dependency.
        """
        definitions = [*self.registry, *CLASS_TASKS]
        plans = [definition.plan for definition in definitions if definition.plan is not None]
        return self.overrides.replaced(provider, replacement, plans, hints_of)


def _name_in(options: dict[str, Any]) -> str | None:
    name = options.pop("name", None)
    return None if name is None else checks.text("name", name)


def _name_of(function: object) -> str:
    # A function without a name is refused by its definition.
    return checks.text("name", getattr(function, "__name__", type(function).__name__))


class _TaskDecorator:
    """The type of `@queue.task(…)`, for type checkers only."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...

    def __call__(self, function: Any, /) -> Any:
        raise NotImplementedError
