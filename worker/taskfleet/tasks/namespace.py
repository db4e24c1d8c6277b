"""Task definitions by name. A name means one task: a function, a batch function or a class."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from taskfleet.errors import ConfigurationError, TaskNotFoundError
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.origin import origin_of


class Registry:
    """The tasks of one `TaskQueue`, or all class tasks. Each `TaskQueue` shares the names of the class tasks."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}
        self._watchers: list[weakref.WeakMethod[Callable[[Definition], None]]] = []
        _REGISTRIES.add(self)

    def add(self, definition: Definition, *, thing: Any = None) -> None:
        """Define a task. Errors: `ConfigurationError` names both, when the name is another task's.

        Code that runs again replaces its earlier definition: see the module `origin`. `thing` is the function or class
        that the application defines, if it is not the definition's function.
        """
        name = definition.name
        if self._definitions.get(name) is definition:
            return
        if definition.origin is None:
            definition.origin = origin_of(thing or definition.function)
        if self is CLASS_TASKS and any(name in registry._definitions for registry in _REGISTRIES):
            gc.collect()  # a queue that the application has dropped, with its tasks, must not cause an error
        rivals = list(_REGISTRIES) if self is CLASS_TASKS else [self, CLASS_TASKS]
        taken = [registry for registry in rivals if name in registry._definitions]
        for registry in taken:
            old = registry._definitions[name]
            if registry is CLASS_TASKS or not (_are_twins(old, definition) or _is_left_behind(old)):
                _check(old, definition)
        for registry in taken:
            del registry._definitions[name]
        self._definitions[name] = definition
        for watcher in list(self._watchers):
            if (added := watcher()) is not None:
                added(definition)
            else:
                self._watchers.remove(watcher)

    def watch(self, added: Callable[[Definition], None]) -> None:
        """Call the method `added` for each task that is defined from now on, for as long as its object lives."""
        self._watchers.append(weakref.WeakMethod(added))

    def find(self, name: str) -> Definition | None:
        return self._definitions.get(name)

    def get(self, name: str) -> Definition:
        definition = self._definitions.get(name)
        if definition is None:
            known = ", ".join(sorted(self._definitions)) or "none"
            raise TaskNotFoundError(f"no task is named {name!r}; known: {known}")
        return definition

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)


_REGISTRIES: weakref.WeakSet[Registry] = weakref.WeakSet()

# Class tasks belong to no queue, so they share one registry, which every worker searches.
CLASS_TASKS = Registry()


def _check(old: Definition, new: Definition) -> None:
    """`ConfigurationError`, unless `new` is the same task as `old`."""
    first, second = old.origin, new.origin
    if first is None or second is None or second.replaces(first):
        return
    locations, advice = (old.location, new.location), "give one another name"
    if old.location == new.location:
        # The same lines made both, so the error names the lines that called them.
        if first.site != second.site or first.caller == second.caller:  # such as a loop in a coroutine
            locations = first.site, second.site
        else:
            locations = first.caller, second.caller
        is_class = getattr(new.function, "__qualname__", "") != second.qualname
        if first.site != second.site and old.function is not new.function and not is_class:
            advice += f", or use functools.wraps in the decorator that makes {second.qualname}"
    both = f"{first.qualname} ({locations[0]}) and {second.qualname} ({locations[1]})"
    raise ConfigurationError(f"two tasks are named {new.name!r}: {both}; {advice}")


def _is_left_behind(old: Definition) -> bool:
    """Whether a test made the definition and has dropped it since, so that its name is free."""
    if old.origin is None or not old.origin.is_of_test or old.task_function is None:
        return False
    if old.task_function() is not None:
        gc.collect()
    return old.task_function() is None


def _are_twins(old: Definition, new: Definition) -> bool:
    """Whether the same lines made both functions from the same values, so that either can run."""
    one, other = old.function, new.function
    if not (isinstance(one, FunctionType) and isinstance(other, FunctionType)) or one.__code__ is not other.__code__:
        return False
    if one.__globals__ is not other.__globals__ or old.options != new.options or old.batch != new.batch:
        return False
    if one.__annotations__ != other.__annotations__:
        return False  # the arguments arrive as other types
    first, second = _values(one), _values(other)
    return first.keys() == second.keys() and all(
        _is_same(value, second[name])
        or (
            second[name] is _NOTHING and getattr(value, "definition", None) is old
        )  # the function itself, not yet assigned
        for name, value in first.items()
    )


_NOTHING = object()


def _values(function: FunctionType) -> dict[str | int, Any]:
    """The variables that the function closes over, by name, and the defaults of its parameters."""
    values: dict[str | int, Any] = dict(enumerate(function.__defaults__ or ()))
    values.update(function.__kwdefaults__ or {})
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            values[name] = _NOTHING
    return values


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one.hex() == float.hex(other)  # nan is nan, 0.0 is not -0.0
    return isinstance(one, (int, str, bytes)) and one == other
