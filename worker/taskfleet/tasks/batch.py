"""Batch tasks: each call is a task, and one run of the function handles many of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeVar, cast

from taskfleet import checks
from taskfleet.context import TaskContext
from taskfleet.errors import ConfigurationError
from taskfleet.tasks import dependency_plan, depends
from taskfleet.tasks.definition import Definition, check_is_function, location_of, with_executor
from taskfleet.tasks.function import Sender, TaskFunction
from taskfleet.tasks.options import BatchOptions, TaskOptions
from taskfleet.tasks.signature import Signature, hints_of

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One task of a batch: its id and its arguments, in the types that its producer gave."""

    id: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    _make_context: Callable[[], TaskContext] | None = field(default=None, repr=False, compare=False)

    @property
    def context(self) -> TaskContext:
        """The same as `current_task()` in other tasks. Errors: `RuntimeError` for an item that no worker made."""
        if self._make_context is None:
            raise RuntimeError("a batch item has a context only in a batch that a worker runs")
        return self._make_context()


BatchFunction = Callable[..., Awaitable[Sequence[Any]] | Sequence[Any]]


class BatchTask(TaskFunction[P, R, C], Generic[P, R, C]):
    """A batch function. A plain call takes a list of `BatchItem`; `enqueue`, `message`, `options` are for one item."""

    def __init__(self, sender: Sender, definition: Definition, function: Callable[..., C]) -> None:
        super().__init__(sender, definition, function)

    def __call__(self, items: Sequence[BatchItem], /, **injected: Any) -> C:  # type: ignore[override]
        if self.definition.plan is not None:
            depends.check_plain_call(self._function, (items,), injected)
        return cast("Callable[..., C]", self._function)(items, **injected)


def define_batch(
    name: str, function: Callable[..., Any], options: TaskOptions, batch: BatchOptions, item: Callable[..., Any] | None
) -> Definition:
    """The definition of a batch task; `ConfigurationError` names it."""
    if item is not None and (isinstance(item, type) or not callable(item)):
        raise ConfigurationError(
            f"batch task {name!r}: item={checks.shown(item)} is no function; "
            "give one whose parameters and result are an item's"
        )
    if options.executor == "process":
        raise ConfigurationError(f"batch task {name!r}: executor='process' is for tasks that run one by one")
    check_is_function(name, function)
    options = with_executor(name, function, options)
    parameters = list(inspect.signature(function).parameters.values())
    markers = depends.set_apart(name, parameters, hints_of(function))
    given = [parameter.name for parameter in parameters if parameter.name not in markers]
    if len(given) != 1 or parameters[0].name != given[0]:
        raise ConfigurationError(
            f"batch task {name!r}: its function takes the list of items first, and nothing else that is not injected; "
            f"it has ({', '.join(given)})"
        )
    plan = None
    if markers:
        plan = dependency_plan.plan(name, markers, hints_of, threaded=options.executor == "thread", has_context=False)
    signature = Signature(item or _anything, name)
    return Definition(
        name, function, options, signature=signature, location=location_of(function), plan=plan, batch=batch
    )


def _anything(*args: Any, **kwargs: Any) -> Any:
    """The signature of an item without one: it takes every type that messagepack has."""
