"""Batch tasks: each call is a task, and one run of the function handles many of them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from taskfleet import checks, type_variables
from taskfleet.context import TaskContext
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.tasks import dependency_plan, depends
from taskfleet.tasks.definition import Definition, check_is_function, location_of, with_executor
from taskfleet.tasks.function import Sender, TaskFunction
from taskfleet.tasks.options import BatchOptions, TaskOptions
from taskfleet.tasks.signature import Signature, hints_of
from taskfleet.travel.problems import problem_of

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
V = TypeVar("V")
# An item without a class of its own has no value.
Value_co = type_variables.TypeVar("Value_co", covariant=True, default=Any)


@dataclass(frozen=True, slots=True)
class BatchItem(Generic[Value_co]):
    """One task of a batch: its id and its arguments, in the types that its producer gave.

    With `@queue.batch_task(item_class=Row)` it is a `BatchItem[Row]`, and `value` is the `Row` of its arguments.
    """

    id: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    _make_context: Callable[[], TaskContext] | None = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> Value_co:
        """An object of the task's `item_class`. Errors: `RuntimeError` for a task without one."""
        raise RuntimeError("a batch item has a value only with @queue.batch_task(item_class=…); use args and kwargs")

    @staticmethod
    def made_of(value: V, *, id: str = "") -> BatchItem[V]:  # noqa: A002 - the name of the field
        """An item with a value, for a plain call of a batch function in a test."""
        return ValuedItem(id, (), {}, None, value)

    @property
    def context(self) -> TaskContext:
        """The same as `current_task()` in other tasks. Errors: `RuntimeError` for an item that no worker made."""
        if self._make_context is None:
            raise RuntimeError("a batch item has a context only in a batch that a worker runs")
        return self._make_context()


@dataclass(frozen=True, slots=True)
class ValuedItem(BatchItem[Value_co]):
    """An item of a task with an `item_class`."""

    _value: Any = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> Value_co:
        return cast("Value_co", self._value)


BatchFunction = Callable[..., Awaitable[Sequence[Any]] | Sequence[Any]]


class BatchTask(TaskFunction[P, R, C], Generic[P, R, C]):
    """A batch function. A plain call takes a list of `BatchItem`; `enqueue`, `message`, `options` are for one item."""

    def __init__(self, sender: Sender, definition: Definition, function: Callable[..., C]) -> None:
        super().__init__(sender, definition, function)

    def __call__(self, items: Sequence[BatchItem[Any]], /, **injected: Any) -> C:  # type: ignore[override]
        if self.definition.plan is not None:
            depends.check_plain_call(self._function, (items,), injected)
        return cast("Callable[..., C]", self._function)(items, **injected)


class ItemClassDecorator(Protocol[P, V]):
    """The type of `@queue.batch_task(item_class=…)`, for type checkers only.

    The calls have the parameters of the class; the function takes items of it and gives one outcome for each.
    """

    @overload
    def __call__(
        self,
        function: Callable[Concatenate[list[BatchItem[V]], ...], Awaitable[Sequence[R | BaseException]]],
        /,
    ) -> BatchTask[P, R, Awaitable[Sequence[R | BaseException]]]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[list[BatchItem[V]], ...], Sequence[R | BaseException]], /
    ) -> BatchTask[P, R, Sequence[R | BaseException]]: ...


class ItemArguments(list[Any]):
    """The loaded arguments of one item, and the object that its class has made of them."""

    def __init__(self, args: Sequence[Any], value: Any) -> None:
        super().__init__(args)
        self.value = value


class _ItemSignature(Signature):
    """The parameters of a class. It is called where the task is sent, as a check, and where it runs."""

    def __init__(self, item_class: type, name: str, result: Any) -> None:
        init: Any = item_class.__init__  # type: ignore[misc]
        hints = (hints_of(init) if inspect.isfunction(init) else {}) | hints_of(item_class)
        super().__init__(item_class, name, result=result, hints=hints)
        self._class = item_class
        self.plain = None  # every item goes through the class

    def dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, behind_result: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        if not behind_result:
            self._make(args, kwargs)
        return super().dump(args, kwargs, behind_result=behind_result)

    def load(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        loaded, named = super().load(args, kwargs)
        return ItemArguments(loaded, self._make(loaded, named)), named

    def _make(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._check_call(args, kwargs)
        try:
            return self._class(*args, **kwargs)
        except Exception as error:  # a validator of the application may raise anything
            raise SerializationError(f"task {self._name!r}, {self._class.__name__}: {problem_of(error)}") from None


def define_batch(
    name: str,
    function: Callable[..., Any],
    options: TaskOptions,
    batch: BatchOptions,
    item: Callable[..., Any] | None,
    item_class: type | None,
) -> Definition:
    """The definition of a batch task; `ConfigurationError` names it."""
    if item is not None and (isinstance(item, type) or not callable(item)):
        raise ConfigurationError(
            f"batch task {name!r}: item={checks.shown(item)} is no function; give one whose parameters and result are "
            "an item's, or a class as item_class="
        )
    if item_class is not None and not isinstance(item_class, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"batch task {name!r}: item_class={checks.shown(item_class)} is no class; give one such as a dataclass, or "
            "a function as item="
        )
    if item is not None and item_class is not None:
        raise ConfigurationError(f"batch task {name!r}: item and item_class both say what an item takes; keep one")
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
    if item_class is not None:
        signature: Signature = _ItemSignature(item_class, name, _outcome_of(function))
    else:
        signature = Signature(item or _anything, name)
    return Definition(
        name, function, options, signature=signature, location=location_of(function), plan=plan, batch=batch
    )


def _anything(*args: Any, **kwargs: Any) -> Any:
    """The signature of an item without one: it takes every type that messagepack has."""


def _outcome_of(function: Callable[..., Any]) -> Any:
    """The type of one outcome, without exceptions, by the return annotation of a batch function."""
    arguments = typing.get_args(hints_of(function).get("return"))
    if not arguments:
        return Any
    kinds = typing.get_args(arguments[0]) if _is_union(arguments[0]) else arguments[:1]
    wanted = [kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, BaseException))]
    return typing.Union[tuple(wanted)] if wanted else Any  # noqa: UP007 - the kinds are known only here


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
