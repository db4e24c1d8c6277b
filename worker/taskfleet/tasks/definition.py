"""The definition of a task, and its construction from a function."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never, SupportsIndex

from taskfleet.errors import ConfigurationError
from taskfleet.tasks.options import BatchOptions, TaskOptions
from taskfleet.tasks.origin import Origin
from taskfleet.tasks.signature import Signature, hints_of

if TYPE_CHECKING:
    from taskfleet.tasks.dependency_plan import DependencyPlan


class Definition:
    """One task: its name, function, signature and options."""

    __slots__ = (
        "batch",
        "function",
        "location",
        "name",
        "options",
        "origin",
        "plan",
        "signature",
        "takes_result",
        "task_function",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        options: TaskOptions,
        *,
        signature: Signature,
        location: str,
        takes_result: bool | None = None,
        plan: DependencyPlan | None = None,
        batch: BatchOptions | None = None,
    ) -> None:
        self.plan = plan  # of its dependencies, if it has any
        self.batch = batch  # for a batch task
        self.name = name
        self.function = function
        self.options = options
        self.signature = signature
        self.location = location
        self.origin: Origin | None = None  # set when a registry first adds the definition
        self.task_function: weakref.ref[Any] | None = None  # dead once the application has dropped it
        self.takes_result = signature.takes_first if takes_result is None else takes_result

    def __deepcopy__(self, memo: Any) -> Definition:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Never:
        raise TypeError(
            f"task {self.name!r}: a message, or a task with options, cannot be pickled; send the task function itself "
            "(it is pickled by module and name) and its arguments, or enqueue here and send the handle's id"
        )


def location_of(thing: Any) -> str:
    """file:line of a function or class."""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None and os.path.isfile(code.co_filename):
        # `inspect` would find the same, but reads the file, which then stays in memory.
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        _, line = inspect.getsourcelines(thing)
        return f"{inspect.getsourcefile(thing)}:{line}"
    except (OSError, TypeError):
        return f"{thing.__module__}.{thing.__qualname__}"


def define(name: str, function: Callable[..., Any], options: TaskOptions) -> Definition:
    """The definition of a function task. Errors: `ConfigurationError` names the task."""
    check_is_function(name, function)
    options = with_executor(name, function, options)
    signature = Signature(function, name)
    plan = None
    if signature.injected:
        from taskfleet.tasks import dependency_plan  # only here: most applications inject nothing

        plan = dependency_plan.of_task(name, signature.injected, hints_of, options.executor)
    return Definition(name, function, options, signature=signature, location=location_of(function), plan=plan)


def with_executor(name: str, function: Callable[..., Any], options: TaskOptions) -> TaskOptions:
    """The options with the executor that suits the function. Errors: `ConfigurationError` names the task."""
    check_runs(name, function.__qualname__, function)
    is_async = inspect.iscoroutinefunction(function)
    executor = options.executor
    if executor == "async" and not is_async:
        return dataclasses.replace(options, executor="thread")
    if executor != "async" and is_async:
        raise ConfigurationError(f"task {name!r} is async: it runs on the loop, not with executor={executor!r}")
    if executor == "process" and ("<" in function.__qualname__ or inspect.ismethod(function)):
        raise ConfigurationError(
            f"task {name!r} ({location_of(function)}): with executor='process' another process finds the function by "
            f"module and name, which {function.__qualname__!r} has not; define it with def at the top of a module"
        )
    return options


def check_is_function(name: str, thing: Any) -> None:
    """`ConfigurationError` says what stands in the place of a task's function, and what to write."""
    if name == "<lambda>":
        raise ConfigurationError("a lambda has no name: define a function with def, or give @queue.task(name=…)")
    if (problem := _what_it_is_instead(thing)) is not None:
        raise ConfigurationError(f"task {name!r}: {problem}")


def _what_it_is_instead(thing: Any) -> str | None:
    if isinstance(thing, staticmethod):
        return f"{thing.__name__} is a static method: write @staticmethod above the decorator of the task, not below it"
    if isinstance(thing, (classmethod, property)):
        return (
            f"a {type(thing).__name__} cannot be a task, since a worker has no object to call it on; decorate a plain "
            "function, or derive a class from taskfleet.Task"
        )
    if isinstance(thing, type):
        return f"{thing.__qualname__} is a class; derive it from taskfleet.Task, or decorate a function"
    if isinstance(thing, functools.partial):
        inner = getattr(thing.func, "__name__", "the function")
        return (
            f"partial is no function, though it can be called; write def and call {inner}(…) in it, or give the "
            "arguments as defaults"
        )
    if not isinstance(getattr(thing, "__qualname__", None), str):
        return (
            f"{type(thing).__name__} is no function, though it can be called; decorate one that is defined with def or "
            "async def and calls it"
        )
    if _is_unbound_method(thing):
        return (
            f"{thing.__qualname__} is a method, and a worker has no {next(iter(inspect.signature(thing).parameters))} "
            "to call it on; derive the class from taskfleet.Task, or decorate a function outside of the class"
        )
    return None


def _is_unbound_method(function: Any) -> bool:
    """Whether a function is defined in the body of a class, for an instance or the class as its first argument."""
    around = function.__qualname__.rpartition(".")[0]
    if not inspect.isfunction(function) or not around or around.endswith("<locals>"):
        return False
    return next(iter(inspect.signature(function).parameters), None) in ("self", "cls")


def check_runs(name: str, label: str, function: Callable[..., Any]) -> None:
    """Errors for a generator function: a call would only make a generator, without running it."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"task {name!r}: {label} is a generator, for it has a yield: a call runs nothing of it; collect what it "
            "gives and return that"
        )
