"""The import path of a task's function, by which a child process finds it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from taskfleet.errors import ConfigurationError
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.namespace import CLASS_TASKS
from taskfleet.tasks.signature import Signature


def check(definition: Definition) -> None:
    """Check that a child process will find the function of a definition; `ConfigurationError` tells why it will not.

    The check needs all modules of the application, so it is made when a worker starts.
    """
    function = definition.function
    module, qualname = function.__module__, function.__qualname__
    problem = "another process finds it by module and name"
    if module == "__main__":
        raise ConfigurationError(
            f"task {definition.name!r} ({definition.location}) is defined in the program's main file or a notebook, "
            f"and with executor='process' {problem}: move it into a module that can be imported"
        )
    found = _walk(sys.modules.get(module), qualname)
    if CLASS_TASKS.find(definition.name) is definition:
        function = inspect.unwrap(function)  # its execute method
    if any(thing is function or _definition(thing) is definition for thing in _unwrapped(found)):
        return
    raise ConfigurationError(
        f"task {definition.name!r} ({definition.location}): with executor='process' {problem}, and {module}:{qualname} "
        f"is {'not there' if found is None else f'something else, {found!r}'}; give the function a name of its own "
        "there"
    )


def find(module: str, qualname: str, name: str) -> tuple[Callable[..., Any], Signature]:
    """The function at `module:qualname` of the task `name`, and its signature. Errors are those of the import."""
    found = _walk(importlib.import_module(module), qualname)
    if found is None:
        raise ImportError(f"module {module!r} has no {qualname!r}: the process has imported another version of it")
    for thing in _unwrapped(found):
        definition = _definition(thing)
        # A function that was decorated twice has two names.
        if definition is not None and definition.name == name:
            return definition.function, definition.signature
    of_class = CLASS_TASKS.find(name)
    if of_class is not None and inspect.unwrap(of_class.function) is inspect.unwrap(found):
        return of_class.function, of_class.signature
    return found, Signature(found, name)


def _walk(module: Any, qualname: str) -> Any:
    thing = module
    for part in qualname.split("."):
        thing = getattr(thing, part, None)
    return thing


def _unwrapped(thing: Any) -> Iterator[Any]:
    """The object at a name, and the objects that its decorators have wrapped."""
    while thing is not None:
        yield thing
        thing = getattr(thing, "__wrapped__", None)


def _definition(thing: Any) -> Definition | None:
    return thing.definition if isinstance(thing, TaskFunction) else None
